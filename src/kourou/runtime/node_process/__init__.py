"""A node's own process or thread: attach, unpickle, run, serve, tell how it ended.

Start with ``main`` and ``run_node``, then ``serving`` (its server) and ``metering``. It may use ``process`` and
what is below.
"""
