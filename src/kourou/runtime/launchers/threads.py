"""Nodes as threads of this process."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - can be imported no more once the main thread has ended, and nodes may live on
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from kourou import errors
from kourou.runtime.context import context
from kourou.runtime.interpreter.startup import print_failure
from kourou.runtime.interpreter.thread_interrupts import forget_interrupt, interrupt_thread
from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.model.process import Blobs
from kourou.runtime.model.records import NO_SIGNAL, Outcome, ProcessExit
from kourou.runtime.node_process.outcomes import run_to_outcome
from kourou.runtime.plan.plan import NodePlan
from kourou.shown import described

Entry = Callable[[context.NodeContext], None]

_MOST_INTERRUPTS = 2  # one to interrupt and one to terminate; a node's end is made to bear so many at any moment


class ThreadLauncher(Launcher):
    """Runs each node in a daemon thread.

    A thread cannot be killed. One that still runs when it should have been is left behind, reported as killed, and
    ends with the process.

    Args:
        entries: node name → what its thread runs; more may come.
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
        self._interrupts: Counter[tuple[str, int]] = Counter()
        self._abandoned: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._inheritance = context.inherit_in_threads()
        self._inheritance.__enter__()

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        """Nothing: ``entries`` has them."""

    def forget(self, names: set[str]) -> None:
        """Nothing: likewise."""

    def start(self, name: str, attempt: int) -> None:
        thread = threading.Thread(target=self._run_child, args=(name, attempt), name=f"kourou:{name}", daemon=True)
        with self._lock:
            self._threads[name] = thread, attempt
        self._events.on_started(name, attempt, os.getpid())
        thread.start()

    def signal(self, name: str, number: int) -> None:
        """Raise StopRequested in the node's thread, as soon as it runs Python code again, or give it up (SIGKILL)."""
        if number == signal.SIGKILL:
            self._give_up(name)
        elif number != NO_SIGNAL:  # a thread begins at once
            self._interrupt(name)

    def _interrupt(self, name: str) -> None:
        with self._lock:
            thread, attempt = self._threads.get(name, (None, 0))
            if thread is not None:
                self._interrupts[name, attempt] += 1
                if (name, attempt) in self._interruptible and self._interrupts[name, attempt] <= _MOST_INTERRUPTS:
                    interrupt_thread(thread)

    def _give_up(self, name: str) -> None:
        with self._lock:
            thread, attempt = self._threads.get(name, (None, 0))
            if thread is None or (name, attempt) in self._abandoned:
                return
            self._abandoned.add((name, attempt))
        forget_interrupt()  # the thread may never come to its own
        self._events.on_exited(name, attempt, ProcessExit(code=None, signal=signal.SIGKILL))

    def close(self) -> None:
        """Forget the threads; those given up end with the process."""
        if self._inheritance is not None:
            self._inheritance.__exit__(None, None, None)
            self._inheritance = None  # type: ignore[assignment]

    def _run_child(self, name: str, attempt: int) -> None:
        outcome: Outcome | None = None
        abandoned = False
        try:  # an interrupt may come just after the node's code as well, and another one while that is dealt with
            try:
                outcome = self._run(name, attempt)
                abandoned = self._leave_interruptible(name, attempt)
            except errors.StopRequested:
                outcome = outcome or Outcome(kind="stopped")
                abandoned = self._leave_interruptible(name, attempt)
        except errors.StopRequested:
            outcome = outcome or Outcome(kind="stopped")
            abandoned = self._leave_interruptible(name, attempt)
        assert outcome is not None  # noqa: S101 - every way to here sets it
        self._report(name, attempt, outcome)
        if not abandoned:
            self._events.on_exited(name, attempt, ProcessExit(code=outcome.code))

    def _run(self, name: str, attempt: int) -> Outcome:
        try:
            node_context = self._contexts(name, attempt)
            with self._lock:
                self._interruptible.add((name, attempt))
                if self._interrupts[name, attempt]:
                    return Outcome(kind="stopped")
            with context.enter_node(node_context):
                return run_to_outcome(self._entries[name], node_context)
        except errors.StopRequested:
            raise
        except BaseException as error:  # noqa: BLE001 - not of the node's code: a process would end of it, and so be told
            return Outcome(kind="raised", code=1, exception=described(error), traceback=print_failure(error))

    def _leave_interruptible(self, name: str, attempt: int) -> bool:
        """From now on nothing interrupts the calling thread; True if it was given up meanwhile."""
        with self._lock:
            self._interruptible.discard((name, attempt))
            abandoned = (name, attempt) in self._abandoned
            if not abandoned:
                self._threads.pop(name, None)
        forget_interrupt()
        return abandoned
