"""A run without processes: what the director, the coordinator and the placement do, under a clock that is simulated.

Start with ``simulation``, which has the parts of a run that decide, and are real; ``hosts`` and ``processes`` have
those that are not, ``faults`` what befalls them, ``invariants`` what must hold all the same. ``scaled_plan`` makes
large plans of small programs. It may use ``launch`` and what is below.
"""
