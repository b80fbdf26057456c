"""What grpcio's own servers and channels do: health checking, reflection, a coordinator's clients.

Start with ``process`` (which process they belong to) and ``standard_services``; ``relay`` passes connections on to
them, ``executor`` has the threads of their handlers.
"""
