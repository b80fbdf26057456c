"""What both sides of a call know: where a server is, the run's token, names of the protocol, traces.

Start with ``endpoint`` and ``target``; ``background`` is a thread that runs while there is work. It may use ``wire``.
"""
