"""A run as other shells see it: found by its folder, asked through its coordinator, sampled.

Start with ``found_run``, then ``remote_run`` and ``sampling``. It may use all of the runtime but ``launch``.
"""
