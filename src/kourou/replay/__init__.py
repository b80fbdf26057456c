"""Replay: items that some processes write and others sample, as DeepMind Reverb does it, without TensorFlow.

A *step* is what an environment gives at once: nested arrays of fixed shapes. An *item* is a key, a priority and some
rows of steps (``storage.layout``), which items that overlap share; a *table* is items under selectors and a limiter.

``kourou.replay.dataset.ReplayDataset`` gives batches to PyTorch, and is imported by that name since it needs torch.
"""

from __future__ import annotations

from kourou.replay import rate_limiters, selectors
from kourou.replay.arrays.signature import TensorSpec
from kourou.replay.client.client import Client
from kourou.replay.client.group import GroupClient
from kourou.replay.protocol.samples import ReplaySample, SampleBatch, SampleInfo
from kourou.replay.server.checkpoints import Checkpointer
from kourou.replay.server.server import Server
from kourou.replay.storage.compression import Compression
from kourou.replay.table.hooks import Event, Extension
from kourou.replay.table.info import TableInfo
from kourou.replay.table.table import Table
from kourou.replay.writers.batch import BatchWriter
from kourou.replay.writers.group import GroupWriter
from kourou.replay.writers.rules import ItemRule, Moment, infer_signature, td_error
from kourou.replay.writers.structured import StructuredWriter
from kourou.replay.writers.trajectory import TrajectoryWriter

__all__ = [
    "BatchWriter",
    "Checkpointer",
    "Client",
    "Compression",
    "Event",
    "Extension",
    "GroupClient",
    "GroupWriter",
    "ItemRule",
    "Moment",
    "ReplaySample",
    "SampleBatch",
    "SampleInfo",
    "Server",
    "StructuredWriter",
    "Table",
    "TableInfo",
    "TensorSpec",
    "TrajectoryWriter",
    "infer_signature",
    "rate_limiters",
    "selectors",
    "td_error",
]
