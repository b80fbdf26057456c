"""The lane between hosts: frames in one gRPC stream a client.

Start with ``channel``, then ``client`` and ``stream`` on one side, ``server`` and ``connection`` on the other.
"""
