"""Starting threads, where the system may allow no more of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from kourou import errors
from kourou.limits import too_many

_NO_MORE = "can't start new thread"  # CPython's words; it does not tell errno, and others mean other things


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        LaunchError: the system allows no more of them; says which limits there are.
        RuntimeError: the interpreter is shutting down.
    """
    with starting(thread.name):
        thread.start()


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """While entered, threads of an executor or of a library are started; raises as :func:`start` does."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != _NO_MORE:
            raise
        raise errors.LaunchError(f"cannot start the thread {name}: {too_many()}") from error
