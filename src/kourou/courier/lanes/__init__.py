"""Ways from a client to a server, the fastest first: ``inproc``, ``local``, ``grpc``.

A lane carries frames and knows nothing of values. ``loop`` reads all sockets of a server, ``http2`` is what gRPC's
lane is built on, ``grpcio`` what that library does for us. All lanes keep ``kourou.testing.contracts``. Which one
a client takes is chosen in ``courier.reconnecting``.
"""
