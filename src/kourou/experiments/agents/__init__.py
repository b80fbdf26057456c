"""What a manager trains, with its environments and what it writes.

Start with ``agent``, then ``environments``, ``writer`` and ``storage`` (an agent on disk). It may use ``slurm`` and
what is below.
"""
