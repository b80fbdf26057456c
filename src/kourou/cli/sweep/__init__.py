"""``kourou sweep …``.

Start with ``commands``, as typer reads them; each of the others is one of them or its ``options`` and ``table``. It
may use ``terminal``.
"""
