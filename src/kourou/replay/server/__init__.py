"""A server's tables behind calls: who is connected, what is taken back from those that are gone, checkpoints.

Start with ``server`` and ``service``, then ``inserts``, ``samples`` and ``waits`` (calls that a limiter holds up),
``data`` (what references refer to) and ``client_sessions``; ``snapshot`` and ``checkpoints`` are one cut through all
tables. It may use all of replay.
"""
