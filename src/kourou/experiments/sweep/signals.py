"""Ctrl-C, SIGTERM and hangups while a sweep runs: handed to its scheduler instead of raised somewhere in it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from kourou.runtime.interpreter.signal_handlers import SignalHandlers

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_to(callback: Callable[[int], None]) -> Iterator[None]:
    """In the body, call ``callback`` with each signal that asks for the end; does nothing outside of the main thread.

    It runs between any two instructions of the main thread, so it may only put something into a SimpleQueue.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = SignalHandlers()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
            handlers.set(number, lambda received, _frame: callback(received))
    try:
        yield
    finally:
        handlers.give_back()
