"""Running a node's code and putting its end into words; the same for a thread and for a process."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator

from kourou import errors
from kourou.runtime.context import NodeContext
from kourou.runtime.interpreter import print_failure
from kourou.runtime.records import Outcome

__all__ = ["Ended", "exited", "forget_interrupt", "interrupt_thread", "live", "shielded"]


_HEARD_S = 1.0  # within which all nodes hear of a stop, unless a machine is overloaded


class Ended(BaseException):
    """Raised by a node that runs others and whose end is in words already: those of the child that failed."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.exception)
        self.outcome = outcome


def live(entry: Callable[[NodeContext], None], context: NodeContext) -> Outcome:
    """Run ``entry(context)``; whatever it raises becomes an :class:`Outcome` and, if it is a failure, is printed."""
    try:
        entry(context)
    except errors.StopRequested:
        return Outcome(kind="stopped")
    except SystemExit as error:
        return exited(error)
    except Ended as ended:
        return ended.outcome
    except BaseException as error:  # noqa: BLE001 - whatever a node raises is reported
        if isinstance(error, (errors.ConnectionLost, errors.CallCancelled)):
            # The program stops, and whom the node called was gone first; or has cancelled the call because of the stop,
            # of which this node may hear a moment later.
            heard_within_s = _HEARD_S if isinstance(error, errors.CallCancelled) else 0
            if context.stop.event.wait(heard_within_s):
                return Outcome(kind="stopped")
        return Outcome(kind="raised", code=1, exception=_words(error), traceback=print_failure(error))
    return Outcome(kind="finished")


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - its __str__ is the user's
        return f"{type(error).__name__}, whose __str__ raises"


_shields: dict[int, bool] = {}  # threads that are not to be interrupted now → whether somebody wanted to
_shields_lock = threading.Lock()


def interrupt_thread(thread: threading.Thread) -> None:
    """Raise StopRequested in a thread, as soon as it runs Python code again: no thread can be made to leave a lock."""
    if thread.ident is None or not thread.is_alive():
        return
    with _shields_lock:
        if thread.ident in _shields:
            _shields[thread.ident] = True
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(errors.StopRequested))


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let no interrupt tear the calling thread out of the body, half of whose work would stay; raise it at the end.

    One that comes just before is raised before the body begins.
    """
    ident = threading.get_ident()
    if ident in _shields:
        yield
        return
    wanted = False
    try:
        with _shields_lock:  # whoever was about to interrupt has done so when this is ours
            _shields[ident] = False
        _raise_what_is_due()
        yield
    finally:
        with _shields_lock:
            wanted = _shields.pop(ident, False)
    if wanted:
        raise errors.StopRequested


def _raise_what_is_due() -> None:
    """Nothing: the interpreter raises a due interrupt where a function begins."""


def forget_interrupt() -> None:
    """Take back what :func:`interrupt_thread` did to the calling thread, if that was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)


def exited(error: SystemExit) -> Outcome:
    """What a SystemExit that nobody caught leads to; its message, if it has one, is printed."""
    if error.code is None or error.code == 0:
        return Outcome(kind="finished")
    if isinstance(error.code, int):
        return Outcome(kind="exited", code=error.code & 0xFF)
    with contextlib.suppress(Exception):  # a __str__ of the user's, or a stream
        print(error.code, file=sys.stderr)  # noqa: T201 - as Python itself would
    return Outcome(kind="exited", code=1)
