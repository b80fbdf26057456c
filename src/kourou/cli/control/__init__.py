"""``kourou stop``, ``call``, ``restart``, ``debug`` and ``doctor``: what is done to a run.

Start with ``commands``, as typer reads them, then ``stop_and_call``, ``profiling`` and ``doctor``; ``script_classes``
prints what nodes return. It may use ``terminal``.
"""
