"""What a run measures: rows that any of its processes appends to one file, read while it runs and after it.

Read ``rows`` (the format, and the one rule for names and values), ``writing``, ``reading``, then ``log``, which finds
out whose row it is; ``images`` are files beside the rows; ``shipping`` brings rows from other hosts.
"""
