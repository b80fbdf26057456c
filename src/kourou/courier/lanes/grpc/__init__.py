"""The lane between hosts: frames in one gRPC stream a client.

Start with ``channel`` and ``frame_reader``, then ``client`` and ``stream`` on one side, ``server``, ``connection`` and
``answer_sender`` on the other. ``calls`` is a server of other methods than the lane's: the
coordinator's. ``asking`` makes such calls.
"""
