"""Sweeps as jobs of Slurm: handed over, followed, ended, from any shell.

Start with ``launch`` and ``script``, then ``manifest`` (which runs the same scheduler for one run) and
``watch``. It may use ``sweep`` and what is below.
"""
