"""A node's own process or thread: attach, unpickle, run, serve, tell how it ended.

Start with ``main`` and ``outcomes`` (a node's code is run, its end put into words), then ``serving`` (its server) and
``metering``; ``debugger`` lets debuggers attach. It may use ``process`` and what is below.
"""
