"""What other processes do with a server: one client, or one for several servers.

Start with ``client``, then ``sampler`` (batches drawn ahead), ``batch_inserter`` and ``group``. It may use
``writers`` and what is below.
"""
