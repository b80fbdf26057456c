"""``kourou status``, ``ps``, ``clean`` and ``logs``: runs as they fare.

Start with ``commands``, as typer reads them; the columns of ``status`` are in ``table``, and each of the others is one
of the commands. It may use ``terminal``.
"""
