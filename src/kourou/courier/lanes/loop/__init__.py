"""A server's event loop: one thread that reads all its sockets, and who may come in.

Start with ``event_loop`` and ``poller``, then ``acceptor`` and ``quota`` (who has not shown the token yet).
"""
