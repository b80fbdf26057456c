"""``kourou status``, ``ps``, ``clean`` and ``logs``: runs as they fare.

The columns of ``status`` are in ``table``; ``status``, ``ps`` and ``logs`` are the commands. It may use
``terminal``.
"""
