"""Ctrl-C and SIGTERM in a launcher, and what happens to live runs at the interpreter's exit.

The first signal stops all live runs as ``lp.stop`` does, the second kills them. The handlers that were there before are
put back when no run is live; until that can be done (only the main thread may), ours passes signals on to them.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

from kourou import errors

__all__ = ["Interruptible", "deferred", "restore_if_idle", "watch"]


class Interruptible(Protocol):
    """A run, as far as this module knows it."""

    @property
    def ended(self) -> bool:
        """Nothing of it is left."""

    def interrupt(self, code: int) -> None:
        """Stop; when called again: kill."""

    def stop(self, reason: str) -> None:
        """Stop and wait."""

    def finish_at_exit(self) -> str | None:
        """Wait for the end; the text of a failure that nobody was told of."""


_Handler = Callable[[int, FrameType | None], Any]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_runs: list[Interruptible] = []
_previous: dict[int, Any] = {}
_waiting: list[Interruptible] = []
_failures: list[str] = []
_at_exit_registered = False


def watch(run: Interruptible) -> None:
    """Let Ctrl-C stop a run, and the interpreter's exit wait for it.

    Signal handlers can be installed from the main thread only; launched from another one, a program is still waited
    for (or, after an error, stopped) at exit.
    """
    global _at_exit_registered  # noqa: PLW0603 - once in a process
    _runs[:] = [other for other in _runs if not other.ended or other.finish_at_exit() is not None]
    _runs.append(run)
    if not _at_exit_registered:
        _at_exit_registered = True
        _register_at_exit()
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if number not in _previous:
                _previous[number] = signal.signal(number, _on_signal)


def restore_if_idle() -> None:
    """Put the earlier handlers back if no run is live. Call it in the main thread."""
    if any(not run.ended for run in _runs):
        return
    for number, handler in list(_previous.items()):
        del _previous[number]
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred(run: Interruptible) -> Iterator[None]:
    """While the main thread is in the body, a first signal raises nothing: the body raises when the run has ended."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        _waiting.append(run)
    try:
        yield
    finally:
        if in_main:
            _waiting.remove(run)


def _on_signal(number: int, frame: FrameType | None) -> None:
    live = [run for run in _runs if not run.ended]
    if not live:
        _pass_on(number, frame)
        return
    code = 128 + number
    for run in live:
        run.interrupt(code)
    if not _waiting:
        raise errors.Interrupted(code)


def _pass_on(number: int, frame: FrameType | None) -> None:
    handler = _previous.get(number, signal.SIG_DFL)
    restore_if_idle()
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.raise_signal(number)


def _register_at_exit() -> None:
    # From Python 3.12 on, atexit comes too late to go on with a program: no thread can be started by then. This hook
    # is the one that concurrent.futures uses; imported first, so that its executors are closed after ours has run.
    import concurrent.futures.thread  # noqa: F401, PLC0415 - see above

    threading._register_atexit(_at_shutdown)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public one
    atexit.register(_at_exit)


def _at_shutdown() -> None:
    """Wait for what still runs, before the interpreter shuts down."""
    crashed = getattr(sys, "last_value", None) is not None
    for run in _runs:
        if crashed and not run.ended:
            run.stop("the launcher ended with an error")
        _waiting.append(run)
        failure = run.finish_at_exit()
        if failure is not None:
            _failures.append(failure)
            print(f"kourou: {failure}", file=sys.stderr)  # noqa: T201 - there is no caller to raise to


def _at_exit() -> None:
    """Exit with code 1 if a failure would otherwise go unheard."""
    if not _failures:
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)  # an exit code cannot be changed in any other way by now


def _forget_in_child() -> None:
    """In a fork of the launcher, which has its runs' data but none of their threads."""
    _runs.clear()
    _waiting.clear()
    _failures.clear()


os.register_at_fork(after_in_child=_forget_in_child)
