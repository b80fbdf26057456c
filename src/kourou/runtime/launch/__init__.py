"""A run: put together, directed by one thread, held by its user.

Start with ``launch`` and ``run``, then ``director`` (starts nodes, applies policies), its ``events``,
``exit_records`` (how a node ended) and ``slow_starts`` (who is not ready after ten seconds). It may use all of the
runtime but ``monitoring``.
"""
