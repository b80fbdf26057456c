"""The memory that steps lie in: rows of shared columns, in blocks that are leased and counted.

Start with ``layout`` (steps as columns), then ``rows`` and ``blocks``; ``compression`` is for the way between
hosts. It may use ``arrays``.
"""
