"""What the steps of a writer look like, learned from the steps themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kourou.replay.arrays.array_types import Array
from kourou.replay.arrays.dtypes import as_array, can_take, widened
from kourou.replay.arrays.tree import Path, TreeDef, flatten, path_text
from kourou.replay.storage.layout import ColumnSpec


class StepLayout:
    """Columns by their paths. Dicts may get new keys over time; shapes never change, nor dtypes, but for longer texts.

    Attributes:
        columns: in the order in which they came.
        flat: the columns of steps that are one dict, by key; None for steps that are nested otherwise.
    """

    def __init__(self) -> None:
        self.columns: tuple[ColumnSpec, ...] = ()
        self.flat: dict[Any, int] | None = {}
        self._by_path: dict[Path, int] = {}
        self._structure: TreeDef | None = None

    def match(self, step: Any, filled: Collection[int] = ()) -> list[tuple[int, Array]]:
        """The step as (column, array). Columns that are new in it are known from now on.

        Args:
            step: arrays, nested. None is not given.
            filled: columns that an earlier part of the step has.

        Raises:
            ValueError: a dtype or a shape differs from that of an earlier step, or an earlier part has that column.
            TypeError: something in it has no dtype of fixed size.
        """
        structure, leaves = flatten(step, none_is_nothing=True)
        found = []
        new: list[ColumnSpec] = []
        wider: dict[int, ColumnSpec] = {}
        for path, leaf in zip(structure.paths, leaves, strict=True):
            array = as_array(leaf, "the step's", path)
            column = self._by_path.get(path)
            if column is None:
                new.append(ColumnSpec(path, array.dtype, array.shape))
                column = len(self.columns) + len(new) - 1
            elif column in filled:
                raise ValueError(f"the open step has{path_text(path)} already")
            elif (fitting := self._fitting(column, array)) is not self.columns[column]:
                wider[column] = fitting
            found.append((column, array))
        if not found and not self.columns:
            raise ValueError("the first step has at least one array")
        if new:
            self._add(structure if self._structure is None else self._structure.merged(structure), new)
        if wider:
            self.columns = tuple(wider.get(column, spec) for column, spec in enumerate(self.columns))
        return found

    def _fitting(self, column: int, array: Array) -> ColumnSpec:
        """The column, with room for this array: longer texts have it made wider."""
        spec = self.columns[column]
        if array.shape != spec.shape:
            raise ValueError(
                f"tensor of incompatible shape provided for column{path_text(spec.path)}: got {array.shape} but "
                f"expected {spec.shape}"
            )
        if can_take(spec.dtype, array.dtype):
            return spec
        wider = widened(spec.dtype, array.dtype)
        if wider is None:
            raise ValueError(
                f"tensor of wrong dtype provided for column{path_text(spec.path)}: got {array.dtype} but expected "
                f"{spec.dtype}"
            )
        return ColumnSpec(spec.path, wider, spec.shape)

    def nested(self, leaves: list[Any]) -> Any:
        """One value for each column, nested as the steps are."""
        structure = self._structure or TreeDef("nothing")
        return structure.unflatten([leaves[self._by_path[path]] for path in structure.paths])

    def column(self, path: Path) -> int | None:
        """The column at a path; None when there is none yet."""
        return self._by_path.get(path)

    def _add(self, structure: TreeDef, new: list[ColumnSpec]) -> None:
        self._structure = structure
        for spec in new:
            self._by_path[spec.path] = len(self._by_path)
        self.columns += tuple(new)
        is_flat = structure.kind == "dict" and all(len(path) == 1 for path in self._by_path)
        self.flat = {path[0]: column for path, column in self._by_path.items()} if is_flat else None
