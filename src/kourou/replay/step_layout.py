"""What the steps of a writer look like, learned from the steps themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kourou.replay.arrays import Array, np
from kourou.replay.layout import ColumnSpec
from kourou.replay.structure import Path, flatten, path_text

__all__ = ["StepLayout"]


class StepLayout:
    """Columns by their paths. Dicts may get new keys over time; a dtype or a shape never changes.

    Attributes:
        columns: in the order in which they came.
        dtypes: of the columns.
        flat: the columns of steps that are one dict, by key; None for steps that are nested otherwise.
    """

    def __init__(self) -> None:
        self.columns: tuple[ColumnSpec, ...] = ()
        self.flat: dict[Any, int] | None = {}
        self.dtypes: list[np.dtype[Any]] = []
        self._by_path: dict[Path, int] = {}
        self._template: Any = None

    def match(self, step: Any, filled: Collection[int] = ()) -> list[tuple[int, Array]]:
        """The step as (column, array). Columns that are new in it are known from now on.

        Args:
            step: arrays, nested.
            filled: columns that an earlier part of the step has.

        Raises:
            ValueError: a dtype or a shape differs from that of an earlier step, or an earlier part has that column.
            TypeError: something in it has no dtype of fixed size.
        """
        structure, leaves = flatten(step)
        found = []
        new: list[tuple[Path, Array]] = []
        for path, leaf in zip(structure.paths, leaves, strict=True):
            array = _array(path, leaf)
            column = self._by_path.get(path)
            if column is None:
                new.append((path, array))
                column = len(self.columns) + len(new) - 1
            elif column in filled:
                raise ValueError(f"the open step has{path_text(path)} already")
            else:
                self.check(column, array)
            found.append((column, array))
        if not found:
            raise ValueError("a step has at least one array")
        if new:
            self._template = _merged(self._template, step, ())
            self._add(new)
        return found

    def check(self, column: int, array: Array) -> None:
        """Raise ValueError when an array does not fit its column."""
        spec = self.columns[column]
        if array.dtype != self.dtypes[column]:
            raise ValueError(
                f"tensor of wrong dtype provided for column{path_text(spec.path)}: got {array.dtype} but expected "
                f"{self.dtypes[column]}"
            )
        if array.shape != spec.shape:
            raise ValueError(
                f"tensor of incompatible shape provided for column{path_text(spec.path)}: got {array.shape} but "
                f"expected {spec.shape}"
            )

    def nested(self, leaves: list[Any]) -> Any:
        """One value for each column, nested as the steps are."""
        return _filled(self._template, {path: leaves[column] for path, column in self._by_path.items()}, ())

    def column(self, path: Path) -> int | None:
        """The column at a path; None when there is none yet."""
        return self._by_path.get(path)

    def _add(self, new: list[tuple[Path, Array]]) -> None:
        for path, array in new:
            self._by_path[path] = len(self._by_path)
            self.dtypes.append(array.dtype)
        self.columns += tuple(ColumnSpec(path, array.dtype.str, array.shape) for path, array in new)
        is_flat = isinstance(self._template, dict) and all(len(path) == 1 for path in self._by_path)
        self.flat = {path[0]: column for path, column in self._by_path.items()} if is_flat else None


def _array(path: Path, leaf: Any) -> Array:
    array = np.asarray(leaf)
    if array.dtype.hasobject:
        raise TypeError(f"the step's{path_text(path)} is no array of a fixed dtype: {type(leaf).__name__}")
    return array


def _merged(template: Any, step: Any, path: Path) -> Any:
    """How the steps are nested, with what is new in this one."""
    if isinstance(step, dict) and (template is None or isinstance(template, dict)):
        known = template or {}
        fresh = {key: _merged(known.get(key), value, (*path, key)) for key, value in step.items()}
        return {**known, **fresh}
    if isinstance(step, list | tuple):
        if template is not None and (type(template) is not type(step) or len(template) != len(step)):
            raise ValueError(f"the step's{path_text(path)} was nested in another way before")
        known_parts = template if template is not None else [None] * len(step)
        pairs = enumerate(zip(known_parts, step, strict=True))
        parts = [_merged(old, new, (*path, index)) for index, (old, new) in pairs]
        if isinstance(step, list):
            return parts
        return type(step)(*parts) if hasattr(step, "_fields") else tuple(parts)
    if isinstance(template, dict | list | tuple):
        raise TypeError(f"the step's{path_text(path)} was nested in another way before")
    return 0  # any leaf


def _filled(template: Any, leaves: dict[Path, Any], path: Path) -> Any:
    if isinstance(template, dict):
        return {key: _filled(value, leaves, (*path, key)) for key, value in template.items()}
    if isinstance(template, list | tuple):
        names = getattr(template, "_fields", range(len(template)))
        parts = [_filled(value, leaves, (*path, name)) for name, value in zip(names, template, strict=True)]
        if isinstance(template, list):
            return parts
        return type(template)(*parts) if hasattr(template, "_fields") else tuple(parts)
    return leaves[path]
