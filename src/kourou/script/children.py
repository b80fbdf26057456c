"""What a process of a run gives to the children that multiprocessing starts for it by spawn or forkserver.

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

__all__ = ["Gift", "give", "giving"]

Gift = tuple[Callable[..., object], tuple[Any, ...]]  # what the child calls, with which arguments

_gifts: dict[str, list[Callable[[], Gift]]] = {}  # in the order in which children call them; of each, the last
_change_preparation_data = functools.cache(cpython.change_preparation_data)  # once


def give(what: str, make: Callable[[], Gift]) -> None:
    """Have all children that are started from now on call something first; replaces what was given as ``what``."""
    _gifts.setdefault(what, []).append(make)
    _change_preparation_data(_add_gifts)


@contextlib.contextmanager
def giving(what: str, make: Callable[[], Gift]) -> Iterator[None]:
    """As :func:`give`, while entered; then what was given before is given again."""
    give(what, make)
    try:
        yield
    finally:
        _gifts[what].remove(make)


def _add_gifts(data: dict[str, Any]) -> None:
    gifts = [makes[-1]() for makes in _gifts.values() if makes]
    if gifts:
        for key in ("init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
        data["kourou"] = _Gifts(list(sys.path), list(sys.argv), gifts)


class _Gifts:
    """Calls what was given when it is unpickled: no later moment in a child's start is before the user's objects."""

    def __init__(self, path: list[str], argv: list[str], gifts: list[Gift]) -> None:
        self._arguments = path, argv, gifts

    def __reduce__(self) -> tuple[Any, ...]:
        return _take, self._arguments


def _take(path: list[str], argv: list[str], gifts: list[Gift]) -> None:
    sys.path[:], sys.argv[:] = path, argv
    for function, arguments in gifts:
        function(*arguments)
