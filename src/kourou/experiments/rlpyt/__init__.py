"""rlpyt's launcher and affinities: how a machine is divided among runs.

Start with ``affinity_code`` and ``affinity``, then ``cpus`` (the ones that this process may use) and ``launch``. It
may use ``sweep`` and what is below.
"""
