"""A plan on several hosts, however they are reached.

Start with ``launcher`` and ``pool`` (processes on all of them), then ``host`` (one of them) and ``transport`` (what
leads to its agent, over ssh or dialled).
"""
