"""What clients and servers say to each other, many items at a time.

Start with ``messages`` and ``item_batches``, then ``remote`` (a client's session with its server) and ``samples``.
It may use ``storage`` and what is below.
"""
