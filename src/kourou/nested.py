"""The one walker of nested values: what is a container, what is in it, and how another one like it is made.

Containers are ``dict`` (and subclasses) and read-only views of one, ``list``, ``tuple`` and named tuples, ``set`` and
``frozenset``, ``deque``, instances of dataclasses, attrs classes and pydantic models, ``SimpleNamespace`` (and what
argparse returns), and ``functools.partial``. Objects of the project's own that have ``nested_children``, pairs of a
path's suffix and a child in a fixed order, are looked into when leaves are listed, and are leaves when leaves are
replaced. Anything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from kourou.cpython import imported
from kourou.shown import shown


class Form(NamedTuple):
    """A kind of container.

    Attributes:
        name: of the kind.
        step: how a path goes on to a part, by its name: ``['env']``, ``[2]``, ``.seed``.
        rebuild: another one like a container, of the names of its parts and what they are now.
    """

    name: str
    step: Callable[[Any], str]
    rebuild: Callable[[Any, Sequence[Any], list[Any]], Any]


class Parts(NamedTuple):
    """What is in a container."""

    form: Form
    names: Sequence[Any]
    values: list[Any]


def parts_of(value: Any) -> Parts | None:
    """What is in a container; None for a leaf."""
    take_apart = _taking_apart(type(value))  # type: ignore[arg-type]  # classes can be hashed
    return None if take_apart is None else take_apart(value)


def instance_of(kind: type, names: Sequence[str], values: Sequence[Any]) -> Any:
    """An instance of a class with fields (a named tuple, a dataclass, …), made of nothing but them.

    Its ``__init__`` is not run: that would refuse fields that it does not take.
    """
    if issubclass(kind, tuple):
        return kind(*values)
    if hasattr(kind, "model_construct"):  # pydantic's, which keeps more than fields
        return kind.model_construct(**dict(zip(names, values, strict=True)))
    made = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def iterate_leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` for every leaf below ``value``; a container that contains itself is entered once.

    Paths read like Python: ``args[2]['env'].seed``.
    """
    yield from _iterate(value, path, set())


def _iterate(value: Any, path: str, entered: set[int]) -> Iterator[tuple[str, Any]]:
    if hasattr(type(value), "nested_children"):  # the class, since a client says of itself that it has any method
        children = value.nested_children()
    else:
        parts = parts_of(value)
        if parts is None:
            yield path, value
            return
        children = zip(map(parts.form.step, parts.names), parts.values, strict=True)
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
    parts = parts_of(value)
    if parts is None:
        return function(value)
    if id(value) in entered:
        return value
    entered.add(id(value))
    mapped = [_map(function, child, entered) for child in parts.values]
    entered.discard(id(value))
    if all(new is old for new, old in zip(mapped, parts.values, strict=True)):
        return value
    return parts.form.rebuild(value, parts.names, mapped)


@functools.lru_cache(maxsize=1024)
def _taking_apart(kind: type) -> Callable[[Any], Parts] | None:
    """How instances of a class are taken apart; None if they are leaves."""
    if issubclass(kind, tuple):
        return _named_parts if hasattr(kind, "_fields") else _tuple_parts
    containers = _CONTAINERS
    if argparse := imported("argparse"):  # else there is no namespace of its
        containers = {**containers, argparse.Namespace: _namespace_parts}
    if (base := next((base for base in containers if issubclass(kind, base)), None)) is not None:
        return containers[base]
    if dataclasses.is_dataclass(kind):
        return functools.partial(_object_parts, tuple(field.name for field in dataclasses.fields(kind)))
    if hasattr(kind, "__attrs_attrs__"):
        return functools.partial(_object_parts, tuple(field.name for field in kind.__attrs_attrs__))
    if hasattr(kind, "__pydantic_fields__"):
        return functools.partial(_object_parts, tuple(kind.__pydantic_fields__))
    return None


def _tuple_parts(value: tuple[Any, ...]) -> Parts:
    return Parts(TUPLE, range(len(value)), list(value))


def _named_parts(value: Any) -> Parts:
    return Parts(NAMED, value._fields, list(value))


def _set_parts(value: Collection[Any]) -> Parts:
    values = list(value)
    return Parts(SET, values, values)


def _partial_parts(value: functools.partial[Any]) -> Parts:
    names = (_FUNCTION, *range(len(value.args)), *value.keywords)
    return Parts(PARTIAL, names, [value.func, *value.args, *value.keywords.values()])


def _namespace_parts(value: Any) -> Parts:
    return _object_parts(tuple(vars(value)), value)


def _object_parts(names: Sequence[str], value: Any) -> Parts:
    there = tuple(name for name in names if hasattr(value, name))
    return Parts(OBJECT, there, [getattr(value, name) for name in there])


_CONTAINERS: dict[type, Callable[[Any], Parts]] = {
    dict: lambda value: Parts(DICT, tuple(value), list(value.values())),
    list: lambda value: Parts(LIST, range(len(value)), list(value)),
    set: _set_parts,
    frozenset: _set_parts,
    deque: lambda value: Parts(DEQUE, range(len(value)), list(value)),
    types.MappingProxyType: lambda value: Parts(VIEW, tuple(value), list(value.values())),
    types.SimpleNamespace: _namespace_parts,
    functools.partial: _partial_parts,
}
_FUNCTION = object()  # the name of what a partial calls; its positional arguments have numbers, the others names


def _key(name: Any) -> str:
    return f"[{shown(name)}]"


def _attribute(name: str) -> str:
    return f".{name}"


def _of_partial(name: Any) -> str:
    if name is _FUNCTION:
        return ".func"
    return f".args[{name}]" if isinstance(name, int) else f".keywords[{shown(name)}]"


def _another_dict(original: Any, names: Sequence[Any], values: list[Any]) -> Any:
    new = copy.copy(original)  # keeps subclasses and what they carry, such as a defaultdict's factory
    new.update(zip(names, values, strict=True))
    return new


def _another_object(original: Any, names: Sequence[Any], values: list[Any]) -> Any:
    new = copy.copy(original)  # keeps what is no field
    for name, value in zip(names, values, strict=True):
        object.__setattr__(new, name, value)  # also where it is frozen
    return new


def _another_partial(original: Any, names: Sequence[Any], values: list[Any]) -> Any:
    count = len(original.args) + 1
    return type(original)(*values[:count], **dict(zip(names[count:], values[count:], strict=True)))


DICT: Form = Form("dict", _key, _another_dict)
VIEW: Form = Form("view", _key, lambda _, names, values: types.MappingProxyType(dict(zip(names, values, strict=True))))
LIST: Form = Form("list", _key, lambda _original, _names, values: values)
TUPLE: Form = Form("tuple", _key, lambda _original, _names, values: tuple(values))
NAMED: Form = Form("named", _attribute, lambda original, names, values: instance_of(type(original), names, values))
SET: Form = Form("set", lambda name: f"{{{shown(name)}}}", lambda original, _, values: type(original)(values))
DEQUE: Form = Form("deque", _key, lambda original, _, values: type(original)(values, original.maxlen))
OBJECT: Form = Form("object", _attribute, _another_object)
PARTIAL: Form = Form("partial", _of_partial, _another_partial)
