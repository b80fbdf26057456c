"""The program as its author writes it: nodes in labelled groups, and handles that are edges.

Start with ``program``, ``node`` and ``handles``, then ``resources`` and ``policies`` (what a group gets, what a
failure leads to) and ``broadcast``. Only data; it may use ``waiting`` and what is below.
"""
