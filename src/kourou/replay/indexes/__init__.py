"""What selectors do for one table: pick slots, many at a time.

Each module is one data structure. All of them work on arrays of slots, so that the cost of Python is paid for a
batch and not for an item.
"""

from __future__ import annotations

from kourou.replay.indexes.base import Index
from kourou.replay.indexes.dense import DenseIndex
from kourou.replay.indexes.ordered import OrderedIndex
from kourou.replay.indexes.sumtree import SumTreeIndex
from kourou.replay.indexes.tournament import TournamentIndex

__all__ = ["DenseIndex", "Index", "OrderedIndex", "SumTreeIndex", "TournamentIndex"]
