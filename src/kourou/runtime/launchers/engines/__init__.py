"""Engines: what allocates hosts for a plan, and starts an agent on each.

Start with ``base`` (what an engine does), then ``reach`` (how a launcher uses one); ``slurm`` is one.
"""
