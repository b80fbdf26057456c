"""What the children of a process of a run call first: those that multiprocessing starts for it by spawn or forkserver.

Such a child would import the script anew, top level and all, and so launch the program again. It gets the run's
``__main__`` instead, and whatever else its parent has for it, before its first object is unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from kourou import cpython

ChildCall = tuple[Callable[..., object], tuple[Any, ...]]  # what the child calls, with which arguments

_calls: dict[str, list[Callable[[], ChildCall]]] = {}  # in the order in which children call them; of each, the last
_change_preparation_data = functools.cache(cpython.change_preparation_data)  # once


def call_first(what: str, make: Callable[[], ChildCall]) -> None:
    """Have all children that are started from now on call something first; replaces the earlier call of that name."""
    _calls.setdefault(what, []).append(make)
    _change_preparation_data(_add_gifts)


@contextlib.contextmanager
def calling_first(what: str, make: Callable[[], ChildCall]) -> Iterator[None]:
    """As :func:`call_first`, while entered; then what was called before is called again."""
    call_first(what, make)
    try:
        yield
    finally:
        _calls[what].remove(make)


def _add_gifts(data: dict[str, Any]) -> None:
    calls = [makes[-1]() for makes in _calls.values() if makes]
    if calls:
        for key in ("init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
        data["kourou"] = _ChildCalls(list(sys.path), list(sys.argv), calls)


class _ChildCalls:
    """Makes its calls when it is unpickled: no later moment in a child's start is before the user's objects."""

    def __init__(self, path: list[str], argv: list[str], calls: list[ChildCall]) -> None:
        self._arguments = path, argv, calls

    def __reduce__(self) -> tuple[Any, ...]:
        return _call_all, self._arguments


def _call_all(path: list[str], argv: list[str], calls: list[ChildCall]) -> None:
    sys.path[:], sys.argv[:] = path, argv
    for function, arguments in calls:
        function(*arguments)
