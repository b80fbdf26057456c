"""``kourou run`` and ``kourou plan``.

Start with ``run_and_plan``, then ``loading`` (the program that a command line names), ``function_arguments`` and
``drawing``. It may use ``terminal``.
"""
