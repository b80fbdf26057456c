"""A server's event loop: one thread that reads all its sockets.

Start with ``event_loop`` and ``poller``, then ``acceptor`` and ``quota`` (of unauthenticated connections).
"""
