"""Waiting, and saying for whom once that has taken ten seconds.

``node_target`` waits until a node is READY, ``long_waits`` has the ten seconds and names what the launcher waits
for. ``event_queue`` and ``countdown`` wait for events and for many nodes at once. It may use ``context`` and what
is below.
"""
