"""Definitions on their way into ``__main__``: begun, so that others can refer to them, then filled.

What a definition is made of may refer to it, and has all of it unpickled once more before the first time is over. So
whoever comes first makes it, and fills it, and the others get that.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class PartialDefinitions:
    """The definitions of one ``__main__`` that have been begun."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.unfilled: set[str] = set()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """While entered, definitions that are unpickled are these; for one thread at a time."""
        global _current  # noqa: PLW0603 - what a pickle calls gets nothing but what is in the pickle
        before, _current = _current, self
        try:
            yield
        finally:
            _current = before

    def forget(self, names: Iterable[str]) -> None:
        """They could not be unpickled."""
        for name in names:
            self.made.pop(name, None)
            self.unfilled.discard(name)


_current = PartialDefinitions()


def begin(name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Make a definition, without what is filled in later, and have others find it."""
    into = _current
    if name not in into.made:
        into.made[name] = made = make(*arguments)
        into.unfilled.add(name)
        vars(sys.modules["__main__"]).setdefault(name, made)
    return into.made[name]


def fill(name: str, made: Any, set_state: Callable[[Any, Any], object], state: Any) -> None:
    """Fill a definition that was begun."""
    if name in _current.unfilled:
        _current.unfilled.discard(name)
        set_state(made, state)
