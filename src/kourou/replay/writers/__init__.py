"""Steps on their way into leased blocks, and items made of them.

Start with ``base``, ``stream`` and ``outbox``, then the writers: ``trajectory``, ``batch``, ``structured`` (by
``rules``), ``group``. It may use ``table`` and what is below.
"""
