"""Where am I: the node and the run that code belongs to, and how it stops its program.

Start with ``context``, then ``stop_functions`` (``lp.stop`` and its like) and ``children_control`` (the same in the
children that a node starts). It may use ``stopping`` and what is below.
"""
