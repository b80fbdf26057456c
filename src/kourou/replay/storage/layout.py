"""How steps are laid out in columns, and how an item is made of their rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from kourou.replay.arrays.array_types import Array, Integers, np
from kourou.replay.arrays.dtypes import checked_dtype
from kourou.replay.arrays.tree import Path, TreeDef


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
    """One array of every step.

    Args:
        path: where it is in the step.
        dtype: anything that NumPy takes for one; itself, since not every one can be told by its name.
        shape: of the array of one step.
    """

    path: Path
    dtype: Any
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", checked_dtype(self.dtype, self.path))
        if any(length < 0 for length in self.shape):
            raise ValueError(f"{self.path}: the shape {self.shape} has a negative length")

    @property
    def row_bytes(self) -> int:
        """Bytes of one step's array."""
        return int(self.dtype.itemsize) * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of an item: some rows of one column.

    Args:
        column: its index among the columns of the step.
        rows: their numbers, relative to the item's first step.
        squeeze: there is one row, and the array has no axis for it.
    """

    column: int
    rows: range | tuple[int, ...]
    squeeze: bool = False

    def __post_init__(self) -> None:
        if not self.rows or min(self.rows) < 0 or (self.squeeze and len(self.rows) != 1):
            raise ValueError(f"an array of an item has at least one row (just one if squeezed), not {self.rows}")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What items of one kind are made of."""

    store: int
    structure: TreeDef
    leaves: tuple[Leaf, ...]
    span: int = dataclasses.field(init=False)
    """Steps from the first to the last, both included."""

    def __post_init__(self) -> None:
        if not self.leaves or len(self.leaves) != len(self.structure.paths):
            raise ValueError(f"{len(self.leaves)} arrays for a structure of {len(self.structure.paths)}")
        object.__setattr__(self, "span", 1 + max(max(leaf.rows) for leaf in self.leaves))

    def kinds(self, columns: Sequence[ColumnSpec]) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """The dtype and shape of each array of an item."""
        specs = [columns[leaf.column] for leaf in self.leaves]
        return [
            (spec.dtype, spec.shape if leaf.squeeze else (len(leaf.rows), *spec.shape))
            for leaf, spec in zip(self.leaves, specs, strict=True)
        ]

    def nbytes(self, columns: Sequence[ColumnSpec]) -> int:
        """Bytes of all arrays of an item."""
        return sum(len(leaf.rows) * columns[leaf.column].row_bytes for leaf in self.leaves)


def block_columns(span: int, length: int) -> int:
    """Blocks of ``length`` rows that an item of ``span`` steps can lie in, at most."""
    return (length + span - 2) // length + 1


def gather(pattern: Pattern, arrays: Sequence[Array], blocks: Integers, offsets: Integers, length: int) -> list[Array]:
    """The arrays of items, stacked along a new first axis.

    Args:
        pattern: of all these items.
        arrays: the columns of their store.
        blocks: [n, k] int, where each item lies: its first block and those that follow.
        offsets: [n] int, the row of each item's first step within its first block.
        length: rows of a block.
    """
    gathered = []
    known: dict[range | tuple[int, ...], Integers] = {}
    for leaf in pattern.leaves:
        rows = known.get(leaf.rows)
        if rows is None:
            rows = known[leaf.rows] = _rows(leaf.rows, blocks, offsets, length)
        column = arrays[leaf.column]
        if leaf.squeeze:
            rows = rows[:, 0]
        out = np.empty((*rows.shape, *column.shape[1:]), column.dtype)
        # NumPy's default mode would gather into a copy first; "clip" does not, and there is nothing to clip.
        np.take(column, rows, axis=0, out=out, mode="clip")
        gathered.append(out)
    return gathered


def _rows(relative: range | tuple[int, ...], blocks: Integers, offsets: Integers, length: int) -> Integers:
    """The rows [n, len(relative)] in the columns."""
    if length == 1:
        rows: Integers = blocks[:, list(relative)] if relative[0] or len(relative) > 1 else blocks[:, :1]
        return rows
    steps = offsets[:, None] + np.array(relative, np.int64)
    if blocks.shape[1] == 1:
        return blocks.astype(np.int64) * length + steps
    which = steps // length
    return np.take_along_axis(blocks.astype(np.int64), which, axis=1) * length + steps - which * length
