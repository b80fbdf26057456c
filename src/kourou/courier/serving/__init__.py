"""The server's side of a call: from a frame to an answer.

Start with ``dispatcher`` and ``session``, then ``call`` and ``execution`` (who runs it, and when), ``methods``,
``workers`` and ``batching``; ``starvation`` names pools whose threads all wait. It may use ``core`` and ``wire``.
"""
