"""Nested data as a list of arrays, and how they were nested: something that can be compared, hashed and sent."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from kourou.nested import Parts, instance_of, parts_of

Path: TypeAlias = "tuple[str | int, ...]"
"""From the outside in: keys of dicts, indices of lists and tuples, names of fields."""


@dataclasses.dataclass(frozen=True)
class TreeDef:
    """How leaves are nested.

    Args:
        kind: ``leaf``, ``nothing``, ``dict``, ``list``, ``tuple``, or the class of a named tuple, a dataclass, ….
        names: keys of a dict, names of fields.
    """

    kind: Any
    names: tuple[Any, ...] = ()
    children: tuple[TreeDef, ...] = ()
    paths: tuple[Path, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self._paths()))

    @property
    def steps(self) -> Sequence[Any]:
        """What leads to each of the children in a path."""
        return self.names or range(len(self.children))

    def _paths(self) -> Iterator[Path]:
        if self.kind == "leaf":
            yield ()
        for step, child in zip(self.steps, self.children, strict=True):
            yield from ((step, *path) for path in child.paths)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Nest leaves again. Where there is nothing, there is None."""
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
        if self.kind == "tuple":
            return tuple(values)
        return None if self.kind == "nothing" else instance_of(self.kind, self.names, values)

    def merged(self, other: TreeDef, path: Path = ()) -> TreeDef:
        """What has the leaves of both. Dicts may have different keys, and where one has nothing the other may have any.

        Raises:
            ValueError: it is not.
        """
        if other.kind == "nothing" or self == other:
            return self
        if self.kind == "nothing":
            return other
        if self.kind != other.kind or (self.kind != "dict" and list(self.steps) != list(other.steps)):
            raise ValueError(f"the step's{path_text(path)} was nested in another way before")
        children = dict(zip(self.steps, self.children, strict=True))
        for step, child in zip(other.steps, other.children, strict=True):
            known = children.get(step)
            children[step] = child if known is None else known.merged(child, (*path, step))
        return TreeDef(self.kind, tuple(children) if self.names or other.names else (), tuple(children.values()))


_LEAF = TreeDef("leaf")
_NOTHING = TreeDef("nothing")
_LEAVES = {bool, bytes, float, int, str}  # most of what is no array: there is no need to look closer
_PLAIN = {"dict", "list", "tuple"}  # forms that say all there is to say of a container
_WITH_FIELDS = {"named", "object"}  # … and those of which one has to know the class


def flatten(
    nested: Any, leaf_types: tuple[type, ...] = (), *, none_is_nothing: bool = False
) -> tuple[TreeDef, list[Any]]:
    """The structure of nested data, and its leaves.

    Args:
        nested: dicts, lists, tuples, named tuples, dataclasses and the like. All else is a leaf, also what has a dtype.
        leaf_types: what is a leaf as well.
        none_is_nothing: None is no leaf, but stands for what is not given.
    """
    leaves: list[Any] = []
    return _flatten(nested, leaves, leaf_types, none_is_nothing), leaves


def _flatten(value: Any, leaves: list[Any], leaf_types: tuple[type, ...], none_is_nothing: bool) -> TreeDef:  # noqa: FBT001 - of every part
    if value is None and none_is_nothing:
        return _NOTHING
    parts = _parts(value, leaf_types)
    if parts is None:
        leaves.append(value)
        return _LEAF
    children = tuple(_flatten(child, leaves, leaf_types, none_is_nothing) for child in parts.values)
    form = parts.form.name
    if form in _PLAIN:
        return TreeDef(form, tuple(parts.names) if form == "dict" else (), children)
    return TreeDef(type(value), tuple(parts.names), children)


def _parts(value: Any, leaf_types: tuple[type, ...]) -> Parts | None:
    """What is in a container whose kind can be told in a message; None for a leaf."""
    if value.__class__ in _LEAVES or isinstance(value, leaf_types):
        return None
    parts = parts_of(value)
    if parts is None or parts.form.name == "view":
        return parts_of(dict(value)) if _is_mapping(value.__class__) else None
    if parts.form.name in _PLAIN or (parts.form.name in _WITH_FIELDS and not hasattr(value, "dtype")):
        return parts
    return None


@functools.lru_cache(maxsize=1024)
def _is_mapping(kind: type) -> bool:
    return issubclass(kind, Mapping)


def path_text(path: Path) -> str:
    """The path for messages: `` ['obs'][0]``, or nothing for data that is not nested."""
    return " " + "".join(f"[{step!r}]" for step in path) if path else ""
