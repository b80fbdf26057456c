"""Spans of calls and handlers, recorded while somebody wants them: the newest, in memory, until they are taken.

A call's number names it in all of the run, so that its caller's span and its handler's can be joined. While nothing is
recorded, a call looks at one flag.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

_MOST_SPANS = 200_000


class Span(NamedTuple):
    """What took time."""

    kind: str
    """``call`` that a thread waited for, ``future`` that it did not, ``handler``."""
    name: str
    node: str
    """Whose code it was; empty: the launcher's, or nobody's."""
    thread: int
    start_ns: int
    """Unix time."""
    duration_ns: int
    call_id: int


class Recording(NamedTuple):
    """What a process recorded."""

    spans: list[Span]
    threads: dict[int, str]
    """Their names."""
    lost: int
    """How many older ones there was no room for."""


class Recorder:
    """The spans of a process."""

    def __init__(self) -> None:
        self.on = False
        self.node: Callable[[], str] = str
        """Tells whose code a thread runs."""
        self._until = 0.0
        self._clear()

    def start(self, at_most_s: float) -> int:
        """Record from now on; this host's clock, in nanoseconds.

        Args:
            at_most_s: after which it ends by itself: whoever wanted it may have been killed.
        """
        self._clear()
        self._until = time.monotonic() + at_most_s
        self.on = True
        return time.time_ns()

    def stop(self) -> Recording:
        """Record no more; what there is. Empty if it was stopped before."""
        self.on = False
        recording = Recording(list(self._spans), dict(self._threads), max(0, next(self._count) - len(self._spans)))
        self._clear()
        return recording

    def add(self, kind: str, name: str, start_ns: int, call_id: int, node: str | None = None) -> None:
        """A span that ends now, of the calling thread."""
        if time.monotonic() > self._until:
            self.on = False
            return
        thread = threading.get_ident()
        if thread not in self._threads:
            self._threads[thread] = threading.current_thread().name
        owner = self.node() if node is None else node
        next(self._count)
        self._spans.append(Span(kind, name, owner, thread, start_ns, time.time_ns() - start_ns, call_id))

    def _clear(self) -> None:
        self._spans: deque[Span] = deque(maxlen=_MOST_SPANS)
        self._threads: dict[int, str] = {}
        self._count = itertools.count()


recorder = Recorder()
"""Of this process."""


def call_numbers() -> Iterator[int]:
    """Numbers for the calls of a connection, which those of other connections do not have."""
    return itertools.count(secrets.randbits(40) << 23 | 1)
