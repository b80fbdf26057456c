"""The program as its author writes it: nodes in labelled groups, and handles that are edges.

Start with ``program``, ``node`` and ``handles``, then ``resources`` and ``policies`` (what a group gets, what a
failure leads to), ``broadcast`` and ``replicas`` (one more node like those of a
group). Only data; it may use ``waiting`` and what is below.
"""
