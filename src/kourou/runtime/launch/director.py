"""The director: a thread that tells the state machine what happens, and does what that says. One queue, one clock.

Launchers, the coordinator and the user's threads only put events into its queue, so nothing here needs a lock.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from kourou import threads
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files import nonblocking_stream
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.launch.decisions.state_machine import Event, StateMachine
from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.model import instructions as do
from kourou.runtime.model.events import Due, Exited, Placed, Started
from kourou.runtime.model.records import ExitRecord, NodeState, ProcessExit
from kourou.runtime.output.node_logs import NodeLogs
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.waiting.event_queue import next_of

_log = logging.getLogger("kourou")

ExitCallback: TypeAlias = Callable[[ExitRecord], Any]

_LAST_CALL_S = 5.0  # a callback that hangs must not keep the run from ending


class ExitCallbacks:
    """Calls ``callback(record)`` in a thread of its own; None calls nothing."""

    def __init__(self, callback: ExitCallback | None) -> None:
        self._callback = callback
        self._records: queue.SimpleQueue[ExitRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kourou-on-node-exit", daemon=True)
        if callback is not None:
            threads.start(self._thread)

    def put(self, record: ExitRecord) -> None:
        """A node has ended."""
        self._records.put(record)

    def close(self) -> None:
        """Let the calls for all records so far end; wait for them a few seconds at most."""
        if self._callback is not None:
            self._records.put(None)
            self._thread.join(_LAST_CALL_S)

    def _work(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                if self._callback is not None:
                    run_user_code(self._callback, record)
            except Exception:  # noqa: BLE001 - a user's function; the next record is told all the same
                _log.exception("on_node_exit raised for %s", record.node)


class Director(LauncherEvents):
    """Takes what happens from any thread, and directs a run from its own.

    Args:
        on_node_exit: called, in a thread of its own, with the exit record of every attempt that ended.
        on_end: called in the director's thread when all nodes have ended; gives everything back.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        coordinator: Coordinator,
        *,
        folder: RunFolder,
        logs: NodeLogs,
        on_node_exit: ExitCallback | None = None,
        on_end: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._coordinator = coordinator
        self._folder = folder
        self._logs = logs
        self._callbacks = ExitCallbacks(on_node_exit)
        self._on_end = on_end
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failures: list[ExitRecord] = []
        """Exit records of the nodes that failed, the first failure first."""
        self.crash: Exception | None = None
        """What went wrong in the director itself, should that ever happen."""
        self.changed = threading.Condition()
        """Notified whenever a node has ended."""
        self.over = False
        """All nodes have ended, and everything is being given back: none can be added any more."""
        self.ended = threading.Event()
        """Set when all nodes have ended and everything was given back."""

    def start(self, launcher: Launcher) -> None:
        """Start all nodes, and direct them from now on."""
        machine = StateMachine(
            self._plan,
            run_id=self._folder.run_id,
            here=socket.gethostname(),
            log_file=self._folder.log_file,
            now=time.monotonic(),
        )
        self._thread = threading.Thread(
            target=self._direct, args=(machine, launcher), name="kourou-director", daemon=True
        )
        threads.start(self._thread)

    def tell(self, event: Event) -> None:
        """Something has happened, or is asked for."""
        self._events.put(event)

    def on_placed(self, name: str, attempt: int, host: str) -> None:
        self._events.put(Placed(name=name, attempt=attempt, host=host))

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        self._events.put(Started(name=name, attempt=attempt, pid=pid))

    def on_line(self, name: str, line: str, stream: str) -> None:
        del stream
        self._logs.line(name, line)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        self._events.put(Exited(name=name, attempt=attempt, exit=exit))

    def _direct(self, machine: StateMachine, launcher: Launcher) -> None:
        try:
            while not machine.ended:
                for instruction in machine.handle(self._next_event(machine.due), time.monotonic()):
                    self._carry_out(instruction, launcher)
        except Exception as error:  # noqa: BLE001 - a run must never seem to have gone well because its director died
            self.crash = error
        finally:
            self.over = True
            try:
                self._callbacks.close()
                self._on_end()
            except Exception as error:  # noqa: BLE001 - likewise; and whoever waits for the end must hear of it
                self.crash = self.crash or error
            self.ended.set()
            with self.changed:
                self.changed.notify_all()

    def _next_event(self, due: float) -> Event:
        """What came first, if need be after a wait; events before what is due, for one may be a Ctrl-C."""
        try:
            return next_of(self._events, max(0.0, due - time.monotonic()) if due < math.inf else None)
        except queue.Empty:
            return Due()

    def _carry_out(self, instruction: do.Instruction, launcher: Launcher) -> None:  # noqa: C901, PLR0912 - a case each
        match instruction:
            case do.Add():
                self._add(instruction)
            case do.Begin():
                self._begin(instruction)
            case do.Change():
                self._coordinator.change(instruction.name, **instruction.changes)
            case do.End():
                self._end(instruction)
            case do.Fail():
                self.failures.append(self._with_log(instruction.record))
            case do.Launch():
                launcher.start(instruction.name, instruction.attempt)
            case do.Signal():
                launcher.signal(instruction.name, instruction.number)
            case do.Stop():
                self._coordinator.broadcast_stop(instruction.reason)
            case do.Dismiss():
                self._coordinator.dismiss(instruction.name, instruction.origin)
            case do.Release():
                self._coordinator.broadcast_release()
            case do.Tell():
                self._logs.line(instruction.name, f"kourou: {instruction.text}")
            case do.Warn():
                nonblocking_stream.warn("%s", instruction.text)
            case do.Write():
                self._folder.event(instruction.event, **instruction.fields)

    def _add(self, add: do.Add) -> None:
        self._folder.event("add", nodes=[record.name for record in add.records], origin=add.origin)
        self._coordinator.add(add.records)
        with self.changed:
            self.changed.notify_all()

    def _begin(self, begin: do.Begin) -> None:
        self._coordinator.change(
            begin.name,
            state=NodeState.STARTING,
            attempt=begin.attempt,
            host=begin.host,
            started_at=time.time(),
            endpoint=None,
            pid=None,
            will_restart=False,
        )

    def _end(self, end: do.End) -> None:
        record = self._with_log(end.record)
        self._folder.event("exit", **record.to_dict())
        self._callbacks.put(record)
        self._coordinator.change(record.node, state=record.state, exit=record, will_restart=end.will_restart)
        with self.changed:
            self.changed.notify_all()

    def _with_log(self, record: ExitRecord) -> ExitRecord:
        """The record as it was, without a log that was never written."""
        if record.log_file is None or Path(record.log_file).exists():
            return record
        return dataclasses.replace(record, log_file=None)
