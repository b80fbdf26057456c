"""``kourou run``, ``submit``, ``plan`` and ``simulate``.

Start with ``commands``, as typer reads them, then ``run_and_plan``, ``loading`` (the program that a command line
names), ``function_arguments`` and ``drawing``. It may use ``terminal``.
"""
