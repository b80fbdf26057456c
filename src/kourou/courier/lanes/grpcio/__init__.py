"""What grpcio's own server does: health checking, reflection, and what a server says of itself.

Start with ``standard_services``; ``relay`` passes connections on to them.
"""
