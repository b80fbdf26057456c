"""Signal handlers that are this process's own: its forks get back what was there before.

A handler written in Python runs between two bytecodes. A forked child that inherited one, and sleeps in C code, would
never end by SIGTERM: ``multiprocessing`` would wait for its workers for ever. Programs that are executed inherit no
handler, but would inherit that a signal is ignored; so a signal of no interest is handled by :func:`ignore_signal`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any]


class SignalHandlers:
    """The handlers of one owner, over those of earlier ones. Its methods are for the main thread."""

    def __init__(self) -> None:
        self._ours: dict[int, tuple[Handler, Any]] = {}  # with what was there before

    def __contains__(self, number: int) -> bool:
        return number in self._ours

    def __len__(self) -> int:
        return len(self._ours)

    def set(self, number: int, handler: Handler) -> None:
        """Handle a signal from now on."""
        before = signal.signal(number, handler)
        self._ours[number] = handler, self._ours[number][1] if number in self._ours else before
        if self not in _owners:
            _owners.append(self)

    def before(self, number: int) -> Any:
        """What was there before."""
        return self._ours[number][1] if number in self._ours else signal.SIG_DFL

    def give_back(self) -> None:
        """Put back what was there before, except where the user has set a handler meanwhile."""
        for number, (handler, before) in self._ours.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL if before is None else before)  # None: C code's, which is lost
        self._ours.clear()
        if self in _owners:
            _owners.remove(self)


def ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing."""


class _Fork(threading.local):
    mask: set[int] | None = None


_owners: list[SignalHandlers] = []  # in the order in which they came
_fork = _Fork()


def _before_fork() -> None:
    """Signals wait meanwhile: one that came to the child before its handlers are back would be lost there."""
    numbers = {number for owner in _owners for number in owner._ours}  # noqa: SLF001 - this module's own
    if numbers:
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _after_fork() -> None:
    if _fork.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)
        _fork.mask = None


def _after_fork_in_child() -> None:
    for owner in reversed(tuple(_owners)):
        owner.give_back()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
