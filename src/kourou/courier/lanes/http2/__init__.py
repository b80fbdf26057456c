"""As much of HTTP/2 as one gRPC stream on a connection of its own needs, and TCP under it, with TLS or without.

Start with ``control`` and ``framing``, then ``client`` and ``server``, ``packets`` and ``packet_writer``, ``tcp``.
``calls`` is a server's end where a connection has many calls.
"""
