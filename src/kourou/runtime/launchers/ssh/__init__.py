"""A plan on several hosts over ssh.

Start with ``launcher``, then ``host`` (one of them) and ``connection`` (its agent); ``inventory`` asks what hosts
have, ``sync`` copies code.
"""
