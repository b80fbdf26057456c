"""The steps that a writer still knows, and the parts of them that items are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from kourou.replay.arrays.array_types import Array, np
from kourou.replay.storage.layout import ColumnSpec


class StepSource(Protocol):
    """The writer, as its history sees it."""

    def column_steps(self, column: int) -> range:
        """Numbers of the steps that are kept of a column."""
        ...

    def history_steps(self) -> range:
        """Numbers of the steps since the history began, whether they are kept or not."""
        ...

    def column_spec(self, column: int) -> ColumnSpec:
        """What the column is."""
        ...

    def read_column(self, column: int, steps: Sequence[int]) -> Array:
        """A copy of those steps of the column."""
        ...


class TrajectoryColumn:
    """Some steps of one column: what an item's array will be."""

    __slots__ = ("column", "rows", "source", "squeeze")

    def __init__(
        self,
        source: StepSource,
        column: int,
        rows: range | tuple[int, ...],
        squeeze: bool = False,  # noqa: FBT001, FBT002 - made for every item
    ) -> None:
        self.source = source
        self.column = column
        self.rows = rows
        self.squeeze = squeeze

    def __repr__(self) -> str:
        return f"<{self.shape} of {self.dtype}>"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TrajectoryColumn]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice | list[int]) -> TrajectoryColumn:
        """One of the steps (without an axis for it), some, or a list of them."""
        return _picked(self.source, self.column, self.rows, index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        shape = self.source.column_spec(self.column).shape
        return shape if self.squeeze else (len(self.rows), *shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        dtype: np.dtype[Any] = self.source.column_spec(self.column).dtype
        return dtype

    def numpy(self) -> Array:
        """A copy of the data.

        Raises:
            ValueError: a step is not kept any more, or lacks this column.
        """
        data = self.source.read_column(self.column, self.rows)
        return data[0] if self.squeeze else data


class ColumnHistory:
    """The steps of one column since the history began, the newest last, counted like a list's.

    Those that are not kept any more have their numbers, too: they cannot be read, and no item can be made of them.
    """

    __slots__ = ("_column", "_source")

    def __init__(self, source: StepSource, column: int) -> None:
        self._source = source
        self._column = column

    def __len__(self) -> int:
        return len(self._source.history_steps())

    def __repr__(self) -> str:
        return f"<history of {len(self)} steps>"

    def __getitem__(self, index: int | slice | list[int]) -> TrajectoryColumn:
        """A step (without an axis for it), a slice of steps, or a list of steps.

        Raises:
            IndexError: there are not so many steps.
        """
        return _picked(self._source, self._column, self._source.history_steps(), index)


def _picked(
    source: StepSource, column: int, rows: range | tuple[int, ...], index: int | slice | list[int]
) -> TrajectoryColumn:
    if isinstance(index, slice):
        return TrajectoryColumn(source, column, rows[index])
    if isinstance(index, list):
        return TrajectoryColumn(source, column, tuple(rows[one] for one in index))
    return TrajectoryColumn(source, column, (rows[index],), True)
