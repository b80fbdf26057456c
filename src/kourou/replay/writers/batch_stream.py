"""The steps of many environments that go in step, each environment a row of blocks of its own."""

from __future__ import annotations

from typing import Any

from kourou.replay.arrays.array_types import np
from kourou.replay.protocol.remote import Remote
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.writers.stream import Stream


class BatchStream(Stream):
    """Consecutive steps of ``width`` environments. All of them begin a block with the same step.

    Args:
        keep: steps that stay readable, the newest included.
        width: environments.
    """

    def __init__(
        self, remote: Remote, columns: tuple[ColumnSpec, ...], length: int, keep: int, first: int, width: int
    ) -> None:
        super().__init__(remote, columns, length, keep, first)
        self.width = width
        self.lease_size = max(self.lease_size, 4 * width)

    @property
    def needs_lease(self) -> bool:
        """Whether there are fewer leased blocks than a step of all environments may need."""
        return len(self.leased) < self.width

    def _open_block(self) -> None:
        blocks = np.array([self.leased.pop() for _ in range(self.width)], np.int64)
        if not self._blocks:
            self._blocks_from = self.steps
        elif self._keep > 1:
            self.links.extend(zip(self._blocks[-1].tolist(), blocks.tolist(), strict=True))
        bases = blocks * self.length if self.shared else np.array([self._local_base() for _ in blocks], np.int64)
        self._blocks.append(blocks)
        self._bases.append(bases)
        self._row = bases
        self.left = self.length

    @staticmethod
    def _each(kept: list[Any]) -> list[int]:
        return [one for of_step in kept for one in of_step.tolist()]
