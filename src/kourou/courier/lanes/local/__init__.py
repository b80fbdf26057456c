"""The lane between processes of one host: a UNIX socket for frames, shared memory for bulk.

Start with ``client``, ``server`` and ``connection``, then ``arena`` and ``shared_memory``.
"""
