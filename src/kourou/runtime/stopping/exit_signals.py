"""Signals that ask a launcher to end, and what happens to live runs at the interpreter's exit.

They stop all live runs as ``lp.stop`` does; a Ctrl-C after that kills them. Others never insist: they are sent twice by
those who mean it once (``timeout`` to a process and to its group, Slurm, a terminal that closes). What was ignored, as
SIGHUP is under nohup, stays so. SIGQUIT keeps its meaning: a core dump, or faulthandler's stacks; the zygote ends the
nodes then. The handlers that were there before are put back when no run is live; until that can be done (only the main
thread may), ours passes signals on to them.

A script that ends with an exception, or with ``sys.exit`` of a code other than 0, ends its runs; one that ends
otherwise waits for them. (Nobody hears of a SystemExit that a script raises without ``sys.exit``.) A signal that comes
while it waits raises nothing there; the exit code is what it would have been in ``run.wait()``.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar

from kourou import cpython, errors
from kourou.runtime.interpreter.signal_handlers import SignalHandlers
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.stopping.timeline import interrupted_by
from kourou.shown import shown
from kourou.standard_streams import flush_printed

InterruptedT = TypeVar("InterruptedT", bound=errors.Interrupted)


class LiveRun(Protocol):
    """A run, as far as this module knows it."""

    @property
    def ended(self) -> bool:
        """Nothing of it is left."""
        ...

    def interrupt(self, code: int, *, insist: bool) -> None:
        """Stop; ``insist``, when called before: kill."""

    def stop(self, reason: str) -> None:
        """Stop and wait."""

    def finish_at_exit(self) -> str | None:
        """Wait for the end; the text of a failure that nobody was told of."""


class _Exit(SystemExit):
    """What ``sys.exit`` raises while a run is live: it tells when the interpreter takes it for the script's end.

    The interpreter reads the code of a SystemExit that nobody caught, and nothing of Python calls it then.
    """

    @property
    def code(self) -> Any:
        """What ``sys.exit`` was given."""
        code = cpython.SYSTEM_EXIT_CODE.__get__(self)
        if cpython.is_called_by_interpreter():
            global _exit_code  # noqa: PLW0603 - a script ends once
            _exit_code = code
        return code

    @code.setter
    def code(self, code: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # a slot there
        cpython.SYSTEM_EXIT_CODE.__set__(self, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return SystemExit, self.args


_Exit.__name__ = _Exit.__qualname__ = "SystemExit"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)
_runs: list[LiveRun] = []
_late: list[LiveRun] = []  # that take no signals before the interpreter's exit
_handlers = SignalHandlers()
_waiting: list[LiveRun] = []
_held: list[int] | None = None  # signals that come while the main thread begins a run; None: it does not
_at_exit_registered = False
_exiting = False  # it waits for runs, now that the script has ended
_code_at_exit = 0  # 1: one of them failed, and nobody else tells it; above 128: a signal ended them
_exit_code: Any = None
_failed_because = ""
_sys_exit = sys.exit


@contextlib.contextmanager
def beginning(run: LiveRun) -> Iterator[None]:
    """In the body a run begins; from then on Ctrl-C stops it, and the interpreter's exit waits for it.

    What would tear the calling thread out of the body comes at its end: nothing would ever end a run that only half
    began. Signal handlers can be installed from the main thread only; launched from another one, a program is still
    waited for (or, after an error, stopped) at exit.
    """
    global _held  # noqa: PLW0603 - of the main thread
    in_main = threading.current_thread() is threading.main_thread()
    held: list[int] = []
    with shielded():
        if in_main:
            _held = held
        try:
            _watch(run, in_main=in_main)
            yield
        except BaseException:
            if run in _runs:
                _runs.remove(run)
            raise
        finally:
            if in_main:
                _held = None
        if held:
            signal.raise_signal(held[0])


def await_at_exit(run: LiveRun) -> None:
    """From now on the interpreter's exit waits for it, and Ctrl-C stops it then; before, signals are its owner's.

    Idempotent, as :func:`await_no_more` is.
    """
    _register_at_exit()
    if run not in _late:
        _late.append(run)


def await_no_more(run: LiveRun) -> None:
    """Its owner has ended it."""
    with contextlib.suppress(ValueError):
        _late.remove(run)


def _watch(run: LiveRun, *, in_main: bool) -> None:
    _register_at_exit()
    if in_main:
        _take_signals()
    sys.exit = _exit
    _runs[:] = [*(other for other in _runs if not other.ended or other.finish_at_exit() is not None), run]


def _take_signals() -> None:
    """Let them come here, except where somebody wants it otherwise: they are ignored, or have another handler since.

    Python's own handler of SIGINT is nobody's wish: notebooks put it in place for each of their cells.
    """
    for number in _SIGNALS:
        now = signal.getsignal(number)
        if now is signal.default_int_handler or (number not in _handlers and now is not signal.SIG_IGN):
            _handlers.set(number, _on_signal)


def restore_if_idle() -> None:
    """Put the earlier handlers back if no run is live. Call it in the main thread."""
    if any(not run.ended for run in _runs):
        return
    _handlers.give_back()
    if sys.exit is _exit:
        sys.exit = _sys_exit


def end_with(why: str) -> None:
    """What this process was there for did not come to its end: runs that it launched are stopped at its exit."""
    global _failed_because  # noqa: PLW0603 - of this process
    _failed_because = why


@contextlib.contextmanager
def deferred(run: LiveRun) -> Iterator[None]:
    """While the main thread is in the body, a first signal raises nothing: the body raises when the run has ended."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        if run in _runs and not run.ended:
            _take_signals()
        _waiting.append(run)
    try:
        yield
    finally:
        if in_main:
            _waiting.remove(run)


def interrupted(error: InterruptedT) -> InterruptedT:
    """The error itself: where nobody catches it, this process exits with its code, and shows no traceback."""
    cpython.exit_when_uncaught(errors.Interrupted)
    return error


def _exit(status: Any = None, /) -> NoReturn:
    """As ``sys.exit``."""
    raise _Exit(status)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _code_at_exit  # noqa: PLW0603 - a script ends once
    if _held is not None:
        _held.append(number)
        return
    live = [run for run in _runs if not run.ended]
    if not live:
        _forward(number, frame)
        return
    code = 128 + number
    if _exiting and _code_at_exit <= 1:
        _code_at_exit = code
    for run in live:
        run.interrupt(code, insist=number == signal.SIGINT)
    if not _waiting:
        told = f"{len(live)} runs are" if len(live) > 1 else "the run is"
        raise interrupted(errors.Interrupted(f"{told} being stopped", code))


def _forward(number: int, frame: FrameType | None) -> None:
    handler = _handlers.before(number)
    restore_if_idle()
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.raise_signal(number)


def _register_at_exit() -> None:
    global _at_exit_registered  # noqa: PLW0603 - once in a process
    if _at_exit_registered:
        return
    _at_exit_registered = True
    cpython.at_threading_shutdown(wait_for_runs)
    atexit.register(_at_exit)


def wait_for_runs() -> None:
    """Wait for what still runs, before the interpreter shuts down; end it first, if the script failed."""
    global _exiting, _code_at_exit  # noqa: PLW0603 - a script ends once
    why = _failed_because
    if getattr(sys, "last_value", None) is not None:
        why = "the launcher ended with an error"
    elif _exit_code not in (None, 0):
        why = f"the launcher ended with sys.exit({shown(_exit_code)})"
    _runs.extend(_late)
    _late.clear()
    if not _runs:
        return
    _exiting = True
    _take_signals()
    while _runs:
        run = _runs[0]
        if why and not run.ended:
            run.stop(why)
        _waiting.append(run)
        failure = run.finish_at_exit()
        _runs.remove(run)
        if failure is not None:
            _code_at_exit = _code_at_exit or 1
            _tell(failure)
    if _code_at_exit > 1:
        _tell(f"what the script had left running was {interrupted_by(_code_at_exit)}")
    restore_if_idle()


def _tell(what: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a terminal that has gone
        print(f"kourou: {what}", file=sys.stderr)  # noqa: T201 - there is no caller to raise to


def _at_exit() -> None:
    """Exit with the code of what would otherwise go unheard."""
    if not _code_at_exit:
        return
    logging.shutdown()
    flush_printed()
    os._exit(_code_at_exit)  # an exit code cannot be changed in any other way by now


def _forget_in_child() -> None:
    """In a fork of the launcher, which has its runs' data but none of their threads."""
    global _exiting, _code_at_exit
    _runs.clear()
    _late.clear()
    _waiting.clear()
    _exiting, _code_at_exit = False, 0


os.register_at_fork(after_in_child=_forget_in_child)
