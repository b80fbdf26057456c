"""Running a sweep on this host: what has finished is skipped, what was lost is run again.

Start with ``launch`` and ``scheduler``, then ``prepared``, ``slots`` and ``free_memory`` (what starts, and where),
``attempts`` and ``retries``. It may use ``journal`` and what is below.
"""
