"""As much of HTTP/2 as one gRPC stream on a connection of its own needs, and TCP under it, with TLS or without.

Start with ``framing``, then ``client`` and ``server``, ``packets`` and ``packet_writer``, ``tcp``.
"""
