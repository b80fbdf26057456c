"""Nodes as threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from kourou import errors
from kourou.runtime import context
from kourou.runtime.launchers.base import LauncherEvents
from kourou.runtime.life import forget_interrupt, interrupt_thread, live
from kourou.runtime.records import Outcome, ProcessExit

__all__ = ["Entry", "ThreadLauncher"]

Entry = Callable[[context.NodeContext], None]


class ThreadLauncher:
    """Runs each node in a daemon thread.

    A thread cannot be killed. One that still runs when it should have been is left behind, reported as killed, and
    ends with the process.

    Args:
        entries: node name → what its thread runs.
        contexts: makes the context of a node's attempt.
        events: told of everything that happens.
        report: takes a node's last words.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        contexts: Callable[[str, int], context.NodeContext],
        events: LauncherEvents,
        report: Callable[[str, int, Outcome], None],
    ) -> None:
        self._entries = entries
        self._contexts = contexts
        self._events = events
        self._report = report
        self._threads: dict[str, tuple[threading.Thread, int]] = {}
        self._interruptible: set[tuple[str, int]] = set()
        self._interrupted: set[tuple[str, int]] = set()
        self._abandoned: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._inheritance = context.inherit_in_threads()
        self._inheritance.__enter__()

    def start(self, name: str, attempt: int) -> None:
        """Start a node's thread."""
        thread = threading.Thread(target=self._live, args=(name, attempt), name=f"kourou:{name}", daemon=True)
        with self._lock:
            self._threads[name] = thread, attempt
        self._events.on_started(name, attempt, os.getpid())
        thread.start()

    def interrupt(self, name: str) -> None:
        """Raise StopRequested in the node's thread, as soon as it runs Python code again."""
        with self._lock:
            thread, attempt = self._threads.get(name, (None, 0))
            if thread is not None:
                self._interrupted.add((name, attempt))
                if (name, attempt) in self._interruptible:
                    interrupt_thread(thread)

    def terminate(self, name: str) -> None:
        """The same once more: a thread has no other signal."""
        self.interrupt(name)

    def kill(self, name: str) -> None:
        """Give the node's thread up."""
        with self._lock:
            thread, attempt = self._threads.get(name, (None, 0))
            if thread is None or (name, attempt) in self._abandoned:
                return
            self._abandoned.add((name, attempt))
        self._events.on_exited(name, attempt, ProcessExit(code=None, signal=9))

    def close(self) -> None:
        """Forget the threads; those given up end with the process."""
        if self._inheritance is not None:
            self._inheritance.__exit__(None, None, None)
            self._inheritance = None  # type: ignore[assignment]

    def _live(self, name: str, attempt: int) -> None:
        outcome: Outcome | None = None
        settled = abandoned = False
        while not settled:  # an interrupt may come at any point, just before the node's code and just after it as well
            try:
                if outcome is None:
                    outcome = self._run(name, attempt)
                with self._lock:
                    self._interruptible.discard((name, attempt))
                    abandoned = (name, attempt) in self._abandoned
                    if not abandoned:
                        self._threads.pop(name, None)
                forget_interrupt()
                settled = True
            except errors.StopRequested:
                outcome = outcome or Outcome(kind="stopped")
        assert outcome is not None  # noqa: S101 - the loop ended
        self._report(name, attempt, outcome)
        if not abandoned:
            self._events.on_exited(name, attempt, ProcessExit(code=outcome.code))

    def _run(self, name: str, attempt: int) -> Outcome:
        node_context = self._contexts(name, attempt)
        with self._lock:
            self._interruptible.add((name, attempt))
            if (name, attempt) in self._interrupted:
                return Outcome(kind="stopped")
        with context.enter_node(node_context):
            return live(self._entries[name], node_context)
