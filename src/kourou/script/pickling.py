"""Pickling by value: cloudpickle, and what it loses or refuses.

Code keeps its file name, so tracebacks name it. Functions behind ``functools.cache`` and classes with a
``cached_property`` travel. A class that has arrived is not filled a second time when its next instance comes.
"""

from __future__ import annotations

import contextlib
import functools
import types
import typing
import weakref
from collections import ChainMap
from collections.abc import Callable
from typing import Any, cast

import cloudpickle

from kourou import cpython
from kourou.script import names
from kourou.script.names import Cached, is_definition

_make_class = cloudpickle.cloudpickle._make_skeleton_class  # noqa: SLF001 - as below
_reduce_class = cloudpickle.cloudpickle._dynamic_class_reduce  # noqa: SLF001 - likewise
_set_class_state = cloudpickle.cloudpickle._class_setstate  # noqa: SLF001 - recognised, to be replaced
_dispatch_table = cast("dict[type, Any]", cloudpickle.Pickler.dispatch_table)
_reduce_code = _dispatch_table[types.CodeType]
_NO_FILE = "<dynamic-code>"  # what cloudpickle says in place of a code object's file


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Takes along what cannot be imported elsewhere. Definitions of the script that the others have go by name."""

    def reducer_override(self, obj: Any) -> Any:
        """How to pickle a value; NotImplemented: as pickle does."""
        return NotImplemented if is_definition(obj) and names.is_shared(obj) else self.by_value(obj)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cells: dict[int, _Cell] = {}

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        """Functions that share a closure's variable (``nonlocal``) still do: its cell is made once, for all of them."""
        make, arguments, state, *rest = super()._dynamic_function_reduce(func)
        closure = func.__closure__
        if closure is not None:
            cells = tuple(self.cells.setdefault(id(cell), _Cell(cell)) for cell in closure)
            arguments = (*arguments[:4], cells, *arguments[5:])
        return make, arguments, state, *rest

    def by_value(self, value: Any) -> Any:
        """How to pickle a value that goes by value, whether or not the others have it under a name."""
        if isinstance(value, Cached):
            return _reduce_cached(value)
        return self._completed(value, super().reducer_override(value))

    def definition(self, value: Any) -> Any:
        """As :meth:`by_value`, for what the script defines: also where multiprocessing has begun this process.

        There the script is ``__mp_main__``, which cloudpickle takes for a module that can be imported.
        """
        if isinstance(value, type):
            return self._completed(value, _reduce_class(value))
        if isinstance(value, types.FunctionType):
            return self._completed(value, self._dynamic_function_reduce(value))
        return self.by_value(value)

    def _completed(self, value: Any, reduced: Any) -> Any:
        return _complete_once(value, _with_full_name(value, reduced))


class _Cell:
    """Stands in a pickle for a closure's variable, before it has a value: that may refer to the function."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell  # kept, and with it its identity

    def __reduce__(self) -> tuple[Any, ...]:
        return types.CellType, ()


def _code_with_file(code: types.CodeType) -> tuple[Any, ...]:
    make, arguments = _reduce_code(code)
    return make, tuple(code.co_filename if argument == _NO_FILE else argument for argument in arguments)


def _reduce_cached(value: Any) -> Any:
    module = getattr(value, "__module__", None)
    if module is not None and module not in names.MODULES:
        return NotImplemented  # it is imported by its name
    return _cached_again, (value.__wrapped__, value.cache_parameters())


def _cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(value: functools.cached_property[Any]) -> tuple[Any, ...]:
    return _cached_property_again, (value.func, value.attrname, value.__doc__)


def _cached_property_again(function: Callable[..., Any], name: str | None, doc: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def reduce_named(value: Any) -> tuple[Any, ...]:
    """By value, what pickles as no more than its name: type variables, ``NewType``, ``MISSING = Missing()``."""
    kind = type(value)
    if kind.__module__ != "typing" or isinstance(value, typing.NewType):
        return cpython.reduce_by_attributes(value)
    given = value.__constraints__ if hasattr(value, "__constraints__") else ()
    given = (value.__value__,) if hasattr(value, "__value__") else given  # type Name = …
    known = (word for word in ("bound", "covariant", "contravariant", "type_params") if hasattr(value, f"__{word}__"))
    return _typing_again, (kind, (value.__name__, *given), {word: getattr(value, f"__{word}__") for word in known})


def _typing_again(kind: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    made = kind(*arguments, **options)
    with contextlib.suppress(AttributeError):  # that of an alias is read-only
        made.__module__ = "__main__"
    return made


def _reduce_weak_keys(value: weakref.WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    return weakref.WeakKeyDictionary, (dict(value),)


def _with_full_name(value: Any, reduced: Any) -> Any:
    """Let a class inside of a class be found there."""
    if isinstance(reduced, tuple) and reduced[0] is _make_class:
        kind, name, bases, namespace, *others = reduced[1]
        namespace = {**namespace, "__qualname__": value.__qualname__}
        return _make_class, (kind, name, bases, namespace, *others), *reduced[2:]
    return reduced


_complete: weakref.WeakSet[type] = weakref.WeakSet()  # defined here, or filled by a first arrival


def _complete_once(value: Any, reduced: Any) -> Any:
    """Let a class be filled by its first arrival only: later ones would undo what has been changed in it since."""
    if isinstance(reduced, tuple) and reduced[-1] is _set_class_state:
        _complete.add(value)
        return (*reduced[:-1], _set_class_state_once)
    return reduced


def _set_class_state_once(cls: type, state: Any) -> type:
    if cls not in _complete:
        _complete.add(cls)
        _set_class_state(cls, state)
    return cls


ByValuePickler.dispatch_table = ChainMap(
    {
        types.CodeType: _code_with_file,
        functools.cached_property: _reduce_cached_property,
        weakref.WeakKeyDictionary: _reduce_weak_keys,
    },
    _dispatch_table,
)
