"""Walking nested values: where a handle may hide in a node's arguments, and what its place is called.

Containers that are looked into: ``dict`` (and subclasses), ``list``, ``tuple`` and named tuples, ``set`` and
``frozenset``, dataclass instances and ``functools.partial``. Objects that implement :class:`Nested` are looked into
when leaves are listed, and are leaves when leaves are replaced. Anything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from kourou.shown import shown

__all__ = ["Nested", "iterate_leaves", "map_leaves"]


@runtime_checkable
class Nested(Protocol):
    """An object whose insides are part of the structure, for example :class:`~kourou.Deferred`."""

    def nested_children(self) -> list[tuple[str, Any]]:
        """(path suffix, child) pairs, in a fixed order."""


def iterate_leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` for every leaf below ``value``; a container that contains itself is entered once.

    Paths read like Python: ``args[2]['env'].seed``.
    """
    yield from _iterate(value, path, set())


def _iterate(value: Any, path: str, entered: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Nested) and not isinstance(value, type):
        children = value.nested_children()
    else:
        parts = _take_apart(value)
        if parts is None:
            yield path, value
            return
        children, _ = parts
    if id(value) in entered:
        return
    entered.add(id(value))
    for suffix, child in children:
        yield from _iterate(child, path + suffix, entered)
    entered.discard(id(value))


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with every leaf replaced by ``function(leaf)``.

    Containers in which nothing changed are returned as they are, so the identity of large or shared arguments is kept.
    """
    return _map(function, value, set())


def _map(function: Callable[[Any], Any], value: Any, entered: set[int]) -> Any:
    parts = _take_apart(value)
    if parts is None:
        return function(value)
    if id(value) in entered:
        return value
    entered.add(id(value))
    children, rebuild = parts
    mapped = [_map(function, child, entered) for _, child in children]
    entered.discard(id(value))
    if all(new is old for new, (_, old) in zip(mapped, children, strict=True)):
        return value
    return rebuild(mapped)


_Parts = tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]]


def _take_apart(value: Any) -> _Parts | None:  # noqa: PLR0911 - one for each kind of container
    """The children of a container with their path suffixes, and how to put it together again; None for a leaf."""
    if isinstance(value, dict):
        keys = list(value)
        return [(f"[{shown(key)}]", value[key]) for key in keys], lambda new: _rebuild_dict(value, keys, new)
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            names = value._fields
            return [(f".{n}", v) for n, v in zip(names, value, strict=True)], lambda new: type(value)(*new)
        return [(f"[{i}]", v) for i, v in enumerate(value)], tuple
    if isinstance(value, list):
        return [(f"[{i}]", v) for i, v in enumerate(value)], list
    if isinstance(value, (set, frozenset)):
        return [(f"{{{shown(v)}}}", v) for v in value], type(value)
    if isinstance(value, functools.partial):
        return _take_partial_apart(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
        return [(f".{n}", getattr(value, n)) for n in names], lambda new: _rebuild_object(value, names, new)
    return None


def _take_partial_apart(value: functools.partial[Any]) -> _Parts:
    keys = list(value.keywords)
    count = len(value.args)
    children = [(".func", value.func)]
    children += [(f".args[{i}]", v) for i, v in enumerate(value.args)]
    children += [(f".keywords[{shown(k)}]", value.keywords[k]) for k in keys]

    def rebuild(new: list[Any]) -> Any:
        return type(value)(new[0], *new[1 : count + 1], **dict(zip(keys, new[count + 1 :], strict=True)))

    return children, rebuild


def _rebuild_dict(original: dict[Any, Any], keys: list[Any], values: list[Any]) -> Any:
    new = copy.copy(original)  # keeps subclasses and what they carry, such as a defaultdict's factory
    new.update(zip(keys, values, strict=True))
    return new


def _rebuild_object(original: Any, names: list[str], values: list[Any]) -> Any:
    new = copy.copy(original)  # not dataclasses.replace: that would run __init__ and refuse init=False fields
    for name, value in zip(names, values, strict=True):
        object.__setattr__(new, name, value)
    return new
