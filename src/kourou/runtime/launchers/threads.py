"""Nodes as threads of this process."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - can be imported no more once the main thread has ended, and nodes may live on
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence

from kourou import errors, threads
from kourou.runtime.context import context
from kourou.runtime.interpreter.startup import print_failure
from kourou.runtime.interpreter.thread_interrupts import Interruptible, forget_interrupt, interrupt_thread
from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.model.process import Blobs
from kourou.runtime.model.records import NO_SIGNAL, Outcome, ProcessExit
from kourou.runtime.node_process.outcomes import run_to_outcome
from kourou.runtime.plan.plan import NodePlan
from kourou.shown import described

Entry = Callable[[context.NodeContext], None]


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
        self._running: dict[str, tuple[Interruptible, int]] = {}
        self._abandoned: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._inheritance = context.inherit_in_threads()
        self._inheritance.__enter__()

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        """Nothing: ``entries`` has them."""

    def forget(self, names: set[str]) -> None:
        """Nothing: likewise."""

    def start(self, name: str, attempt: int) -> None:
        work = Interruptible(errors.StopRequested, interrupt_thread)
        thread = threading.Thread(target=self._run, args=(name, attempt, work), name=f"kourou:{name}", daemon=True)
        with self._lock:
            self._running[name] = work, attempt
        self._events.on_started(name, attempt, os.getpid())
        try:
            threads.start(thread)
        except errors.LaunchError as error:
            with self._lock:
                del self._running[name]
            self._events.on_line(name, f"kourou: {error}", "stderr")
            self._events.on_exited(name, attempt, ProcessExit.not_started(str(error)))

    def signal(self, name: str, number: int) -> None:
        """Raise StopRequested in the node's thread, as soon as it runs Python code again, or give it up (SIGKILL)."""
        with self._lock:
            work, attempt = self._running.get(name, (None, 0))
            if work is None or number == NO_SIGNAL or (name, attempt) in self._abandoned:  # a thread begins at once
                return
            if number == signal.SIGKILL:
                self._abandoned.add((name, attempt))
        if number != signal.SIGKILL:
            work.interrupt()
            return
        forget_interrupt()  # the thread may never come to its own
        self._events.on_exited(name, attempt, ProcessExit(code=None, signal=signal.SIGKILL))

    def close(self) -> None:
        """Forget the threads; those given up end with the process."""
        if self._inheritance is not None:
            self._inheritance.__exit__(None, None, None)
            self._inheritance = None  # type: ignore[assignment]

    def _run(self, name: str, attempt: int, work: Interruptible) -> None:
        try:
            node_context = self._contexts(name, attempt)
            outcome = work.run(lambda: self._run_node(name, node_context)) or Outcome(kind="stopped")
        except BaseException as error:  # noqa: BLE001 - not of the node's code: a process would end of it, and so be told
            outcome = Outcome(kind="raised", code=1, exception=described(error), traceback=print_failure(error))
        with self._lock:
            abandoned = (name, attempt) in self._abandoned
            if not abandoned:
                del self._running[name]
        self._report(name, attempt, outcome)
        if not abandoned:
            self._events.on_exited(name, attempt, ProcessExit(code=outcome.code))

    def _run_node(self, name: str, node_context: context.NodeContext) -> Outcome:
        with context.enter_node(node_context):
            return run_to_outcome(self._entries[name], node_context)
