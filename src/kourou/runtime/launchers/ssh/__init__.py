"""Hosts over ssh.

Start with ``transport`` and ``connection`` (an agent there); ``sync`` copies code.
"""
