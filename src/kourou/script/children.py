"""What a process of a run gives to the children that multiprocessing starts for it by spawn or forkserver.

Such a child would import the script anew, top level and all, and so launch the program again. It gets the run's
``__main__`` instead, and whatever else its parent has for it, before its first object is unpickled.
"""

from __future__ import annotations

import contextlib
import multiprocessing.spawn
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Gift", "give", "giving"]

Gift = tuple[Callable[..., object], tuple[Any, ...]]  # what the child calls, with which arguments

_gifts: dict[str, Callable[[], Gift]] = {}  # in the order in which children call them
_prepare = multiprocessing.spawn.get_preparation_data


def give(what: str, make: Callable[[], Gift]) -> None:
    """Have all children that are started from now on call something first; replaces what was given as ``what``."""
    _gifts[what] = make
    multiprocessing.spawn.get_preparation_data = _preparation_data


@contextlib.contextmanager
def giving(what: str, make: Callable[[], Gift]) -> Iterator[None]:
    """As :func:`give`, while entered."""
    give(what, make)
    try:
        yield
    finally:
        if _gifts.get(what) is make:
            del _gifts[what]


def _preparation_data(name: str) -> dict[str, Any]:
    data = _prepare(name)
    if _gifts:
        for key in ("init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
        data["kourou"] = _Gifts(list(sys.path), list(sys.argv), [make() for make in _gifts.values()])
    return data


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
