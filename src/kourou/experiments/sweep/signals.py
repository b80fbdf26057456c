"""What asks a sweep to end, handed to it instead of raised somewhere in it: signals, and the stop of its node."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from kourou.runtime.context.context import current_node
from kourou.runtime.interpreter.signal_handlers import SignalHandlers

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_to(callback: Callable[[int], None]) -> Iterator[None]:
    """In the body, call ``callback`` with each signal that asks for the end; with SIGTERM also if its node is to stop.

    It runs between any two instructions of the main thread, or in another one, so it may only put something into a
    SimpleQueue. Outside of the main thread there are no signals.
    """
    handlers = SignalHandlers()
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(handlers.give_back)
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
                    handlers.set(number, lambda received, _frame: callback(received))
        if (node := current_node()) is not None:
            stack.enter_context(node.stop.watched_by(lambda: callback(signal.SIGTERM)))
        yield
