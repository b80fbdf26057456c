"""Selectors: which item is sampled, and which one goes when a table is full.

A selector here is a description; each table makes its own index from it, so one object may be used anywhere.
"""

from kourou.replay.selectors.custom import SelectorProtocol
from kourou.replay.selectors.selectors import (
    Custom,
    Fifo,
    Lifo,
    MaxHeap,
    MinHeap,
    Prioritized,
    Selector,
    Uniform,
)

__all__ = ["Custom", "Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Selector", "SelectorProtocol", "Uniform"]
