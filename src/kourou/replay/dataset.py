"""Sampled batches as a PyTorch data set. The only module of replay that needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kourou.arguments import also_named
from kourou.errors import MissingExtra
from kourou.replay.arrays.array_types import Array, np
from kourou.replay.arrays.tree import Path, flatten, path_text
from kourou.replay.client.client import Client
from kourou.replay.client.group import GroupClient
from kourou.replay.protocol.samples import SampleBatch

try:
    import torch
except ImportError as error:
    raise MissingExtra("torch", "torch") from error

__all__ = ["ReplayDataset", "TensorBatch"]


class TensorBatch(NamedTuple):
    """A batch.

    Attributes:
        info: as in a :class:`kourou.replay.SampleBatch`, with keys and probabilities as arrays.
        data: tensors [n, …], nested as the items were; lists of tensors where items differ in shape.
    """

    info: SampleBatch
    data: Any


class ReplayDataset(torch.utils.data.IterableDataset[TensorBatch]):
    """Batches of a table, drawn ahead. Use it as it is, or in a ``DataLoader`` with ``batch_size=None``.

    Each iteration, and each worker of a DataLoader, has a connection of its own; it ends with the iteration.

    Args:
        client: of the server, or of a group of servers.
        table: its name.
        batch_size: items of a batch.
        max_in_flight: items on their way, or arrived and not taken; by default those of two batches. 0 draws a batch
            when it is wanted.
        max_samples: items in all (of each worker), then the iteration ends; None for no end.
        rate_limiter_timeout_s: seconds that the limiter may take for a batch, then the iteration ends; None waits.
        pin_memory: give tensors in pinned memory, from which a GPU is filled without a wait.

    Raises:
        ValueError: a number out of its range, when the iteration begins.
    """

    @also_named(
        formerly={"rate_limiter_timeout": "rate_limiter_timeout_s"}, rate_limiter_timeout_ms="rate_limiter_timeout_s"
    )
    def __init__(
        self,
        client: Client | GroupClient,
        table: str,
        batch_size: int,
        *,
        max_in_flight: int | None = None,
        max_samples: int | None = None,
        rate_limiter_timeout_s: float | None = None,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self._client = client
        self._table = table
        self._batch_size = batch_size
        self._options: dict[str, Any] = {
            "max_in_flight": max_in_flight,
            "max_samples": max_samples,
            "timeout_s": rate_limiter_timeout_s,
        }
        self._pin_memory = pin_memory

    def __iter__(self) -> Iterator[TensorBatch]:
        """Draw. Closing the iterator (or leaving it to be collected) gives back what was drawn ahead."""
        with self._client.copy() as client, client.sampler(self._table, self._batch_size, **self._options) as batches:
            for batch in batches:
                structure, leaves = flatten(batch.data)  # lists of arrays of different shapes are nests, too
                named = zip(structure.paths, leaves, strict=True)
                tensors = [_tensor(path, leaf) for path, leaf in named]
                tensors = [tensor.pin_memory() for tensor in tensors] if self._pin_memory else tensors
                yield TensorBatch(batch, structure.unflatten(tensors))


def _tensor(path: Path, array: Array) -> torch.Tensor:
    """A tensor of an array's memory."""
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        kind = getattr(torch, array.dtype.name, None)  # bfloat16 and float8 have the same names there
        if not isinstance(kind, torch.dtype):
            raise TypeError(
                f"the items'{path_text(path)} of {array.dtype} are no tensors: take client.sampler"
            ) from error
        return torch.from_numpy(array.view(np.int16 if kind == torch.bfloat16 else np.uint8)).view(kind)
