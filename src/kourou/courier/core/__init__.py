"""What both sides of a call know: where a server is, the run's token, names of the protocol, traces.

Start with ``endpoint`` and ``target``; ``background`` is the thread that does what is due. It may use ``wire``.
"""
