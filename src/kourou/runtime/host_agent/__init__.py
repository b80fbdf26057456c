"""What runs on another host for the launcher, and how the two speak.

Start with ``main`` and ``wire`` (what an agent sends first, and every message), then ``host_service`` (nodes'
processes there) and ``tunnel`` (the coordinator through the wire). It may use ``node_process`` and what is below.
"""
