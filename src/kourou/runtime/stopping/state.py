"""Whether a program stops, for one node: an event, and the handlers that are called then."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kourou import errors, threads
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.shown import shown

_log = logging.getLogger("kourou")


class StopState:
    """Whether the program stops, for one node (or for the launcher): an event and the handlers that wait for it.

    Args:
        request: asks for the end of the program.
        interrupt_start: called, perhaps twice, if the program stops before :meth:`begin`; None: it has time to end
            all the same.
    """

    def __init__(self, request: Callable[[str], None], interrupt_start: Callable[[], None] | None = None) -> None:
        self.event = threading.Event()
        """Set once the program stops; nodes poll it."""
        self.released = threading.Event()
        """Set once nobody needs a node that only serves any more; it follows ``event``."""
        self.requested = False
        """Somebody here has asked for the end of the program, which may not have heard of it yet."""
        self.removed = ""
        """Who had this node removed from a program that goes on; known by when ``event`` is set. Empty: nobody."""
        self._request = request
        self._interrupt_start = interrupt_start
        self._handlers: list[Callable[..., Any]] = []
        self._root = self
        self._branches: list[StopState] = []
        self._watchers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def ends_program(self) -> bool:
        """The whole program stops, or was asked to from here: not this node alone, nor a part of it."""
        return self.requested or (self._root.event.is_set() and not self.removed)

    def request(self, reason: str) -> None:
        """Ask for the end of the program; idempotent."""
        self.requested = True
        self._request(reason)

    def set(self) -> None:
        """The program stops: wake who waits, call the handlers (in a thread of their own, so none delays the rest)."""
        with self._lock:
            if self.event.is_set():
                return
            self.event.set()
            handlers, self._handlers = self._handlers, []
            branches, watchers = list(self._branches), list(self._watchers)
            interrupt_start = self._interrupt_start
        for wake in watchers:
            wake()
        if interrupt_start is not None:
            interrupt_start()
        for branch in branches:
            branch.set()
        if handlers:
            calling = threading.Thread(target=_call_handlers, args=(handlers,), name="kourou-stop", daemon=True)
            try:
                threads.start(calling)
            except errors.LaunchError:
                _call_handlers(handlers)

    def begin(self) -> None:
        """From now on the node does what it is there for, or looks whether the program stops: it has time to end.

        If the program stops already, it does not come to that.
        """
        with self._lock:
            interrupt_start, self._interrupt_start = self._interrupt_start, None
            stopping = self.event.is_set()
        if stopping and interrupt_start is not None:
            interrupt_start()

    def release(self, removed: str = "") -> None:
        """Let nodes that only serve end as well; ``removed`` says who had this one removed, alone."""
        self._note_removed(removed)
        self.set()
        with self._lock:
            self.released.set()
            branches = list(self._branches)
        for branch in branches:
            branch.release()

    def _note_removed(self, removed: str) -> None:
        """First of all: whoever sees that it is to end, or a part of it, has to know why."""
        with self._lock:
            self.removed = self.removed or removed
            branches = list(self._branches)
        for branch in branches:
            branch._note_removed(removed)  # noqa: SLF001 - another of its kind

    def branch(self) -> StopState:
        """The state of a part of this node: it follows this one, and can be set and released by itself as well."""
        branch = StopState(self._request)
        branch._root = self._root
        with self._lock:
            branch.removed = self.removed
            self._branches.append(branch)
            stopping, released = self.event.is_set(), self.released.is_set()
        if stopping:
            branch.set()
        if released:
            branch.release()
        return branch

    @contextlib.contextmanager
    def watched_by(self, wake: Callable[[], None]) -> Iterator[None]:
        """In the body, call ``wake()``, which must not wait, when the program stops, or if it does, before handlers."""
        with self._lock:
            self._watchers.append(wake)
            stopping = self.event.is_set()
        try:
            if stopping:
                wake()
            yield
        finally:
            with self._lock:
                self._watchers.remove(wake)

    def register(self, handler: Callable[..., Any]) -> None:
        """Call ``handler()`` once when the program stops; at once if it already does."""
        with self._lock:
            if not self.event.is_set():
                if handler not in self._handlers:
                    self._handlers.append(handler)
                return
        _call_handlers([handler])

    def unregister(self, handler: Callable[..., Any]) -> None:
        """Forget a handler; unknown ones are ignored."""
        with self._lock:
            if handler in self._handlers:
                self._handlers.remove(handler)


def _call_handlers(handlers: list[Callable[..., Any]]) -> None:
    for handler in handlers:
        try:
            run_user_code(handler)
        except Exception:  # noqa: BLE001 - the others are called all the same
            _log.exception("the stop handler %s raised", shown(handler))
