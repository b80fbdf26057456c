"""What is known of a sweep, on disk, for any process.

Start with ``journal`` (appended to, never changed) and ``run_records`` (a fold over it), then ``run_folder``,
``requests`` (wishes from other shells) and ``sweep_folder``. It may use ``results`` and what is below.
"""
