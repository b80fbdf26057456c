"""Hosts whose agents call the launcher: one event loop serves all of them.

Start with ``server`` (whom agents reach), then ``transport`` (one of them, as the launcher has it).
"""
