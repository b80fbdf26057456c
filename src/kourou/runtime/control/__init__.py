"""The control plane: who is where and in which state, and that the program stops.

Start with ``directory`` and ``coordinator``, then ``service`` and ``client`` (the same over gRPC), which say what
is in ``messages``. It may use ``plan`` and what is below.
"""
