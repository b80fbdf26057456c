"""Nested data: dicts, lists and tuples of arrays, as a list of arrays and the way they were nested."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Path", "Structure", "flatten", "path_text"]

Path: TypeAlias = "tuple[str | int, ...]"
"""From the outside in: keys of dicts, indices of lists and tuples, names in named tuples."""


@dataclasses.dataclass(frozen=True)
class Structure:
    """How leaves are nested. Can be compared, hashed and sent.

    Args:
        kind: ``leaf``, ``dict``, ``list``, ``tuple``, or the class of a named tuple.
        names: keys of a dict or a named tuple.
        children: in the order of the names.
    """

    kind: Any
    names: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()
    paths: tuple[Path, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self._paths()))

    def _paths(self) -> Iterator[Path]:
        if self.kind == "leaf":
            yield ()
        for index, child in enumerate(self.children):
            name = self.names[index] if self.names else index
            yield from ((name, *path) for path in child.paths)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Nest leaves again."""
        if len(leaves) != len(self.paths):
            raise ValueError(f"{len(leaves)} leaves for a structure of {len(self.paths)}")
        return self._unflatten(iter(leaves))

    def _unflatten(self, leaves: Iterator[Any]) -> Any:
        if self.kind == "leaf":
            return next(leaves)
        values = [child._unflatten(leaves) for child in self.children]  # noqa: SLF001 - of the same class
        if self.kind == "dict":
            return dict(zip(self.names, values, strict=True))
        if self.kind == "list":
            return values
        return tuple(values) if self.kind == "tuple" else self.kind(*values)


LEAF = Structure("leaf")


def flatten(nested: Any) -> tuple[Structure, list[Any]]:
    """The structure of nested data, and its leaves. Whatever is no dict, list or tuple is a leaf; so is None."""
    leaves: list[Any] = []
    return _flatten(nested, leaves), leaves


def _flatten(nested: Any, leaves: list[Any]) -> Structure:
    if isinstance(nested, Mapping):
        return Structure("dict", tuple(nested), tuple(_flatten(value, leaves) for value in nested.values()))
    if isinstance(nested, tuple):
        children = tuple(_flatten(value, leaves) for value in nested)
        names = getattr(nested, "_fields", None)
        return Structure("tuple", (), children) if names is None else Structure(type(nested), names, children)
    if isinstance(nested, list):
        return Structure("list", (), tuple(_flatten(value, leaves) for value in nested))
    leaves.append(nested)
    return LEAF


def path_text(path: Path) -> str:
    """The path for messages: `` ['obs'][0]``, or nothing for data that is not nested."""
    return " " + "".join(f"[{step!r}]" for step in path) if path else ""
