"""Saying what is waited for, once that has taken long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from kourou import errors, threads
from kourou.runtime.files import nonblocking_stream
from kourou.waits import PATIENCE_S


@contextlib.contextmanager
def warn_if_long(message: str, *args: object) -> Iterator[None]:
    """Log a warning if the body takes longer than PATIENCE_S."""
    timer = threading.Timer(PATIENCE_S, nonblocking_stream.warn, (message, *args))
    timer.daemon = True
    with contextlib.suppress(errors.LaunchError):  # then nothing is said
        threads.start(timer)
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
