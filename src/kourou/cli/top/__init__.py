"""``kourou top``: a live run on the whole terminal.

Start with ``app``; ``follow`` looks at the run from threads of its own, ``nodes`` and ``panes`` show what it saw, and
``screens`` lie above them for a while.
"""
