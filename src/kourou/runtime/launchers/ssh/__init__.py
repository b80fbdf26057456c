"""Hosts over ssh.

Start with ``transport`` and ``connection`` (an agent there); ``inventory`` asks what hosts have, ``sync`` copies code.
"""
