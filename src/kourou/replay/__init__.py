"""Replay: items that some processes write and others sample, as DeepMind Reverb does it, without TensorFlow.

How it works, from the outside in:

- A *step* is what an environment gives at once: nested arrays of fixed shapes. Each of its arrays is one row of a
  *column*: a preallocated array that holds that part of many steps. Where the system allows (Linux), columns lie
  in shared memory, so that writers on the same host put their rows there themselves, and samplers there take them
  out themselves; between hosts the same rows travel in frames.
- Rows come in *blocks* of a few consecutive ones. The server leases blocks to writers; when a writer is done with
  them or dies, those that no item needs are free again. A block counts who holds it: items, the writer, readers.
- An *item* is a key, a priority and a reference: a pattern (which rows of which columns, relative to its first step),
  a block, and a row in it. Overlapping items share rows, and nothing of an item is a Python object.
- A *table* is columns of items, too, with an index for each of its selectors, and a limiter that says who waits.
  All of it works on batches: 256 items are inserted, or drawn, counted and described, by a few dozen NumPy calls, and
  their data is one gather for each column.
- One lock guards all tables and blocks of a server. Work under it is short and in memory; copying data is outside of
  it. So every state between two requests is consistent, over all tables, which is what a checkpoint saves.

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
