"""A run as other shells see it: found by its folder, asked through its coordinator, sampled.

Start with ``found_run`` and ``run_search``, then ``remote_run`` and ``sampling``. It may use all of the runtime but
``launch``.
"""
