"""The director: starts a plan's nodes, judges how each ended, and walks the stop timeline. One thread, one queue.

Launchers, the coordinator and the user's threads only put events into its queue, so the state below needs no locks.
"""

from __future__ import annotations

import dataclasses
import heapq
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from kourou.runtime.callbacks import ExitCallback, ExitCallbacks
from kourou.runtime.coordinator import Coordinator
from kourou.runtime.launchers.base import Launcher
from kourou.runtime.logs import NodeLogs
from kourou.runtime.plan import LaunchPlan
from kourou.runtime.policies import Restart
from kourou.runtime.records import ExitRecord, NodeState, Outcome, ProcessExit, describe_signal
from kourou.runtime.rundir import RunFolder

__all__ = ["Director"]

_SIGKILL = 9
_KILLED_WITHIN_S = 10.0  # a process in uninterruptible sleep may outlive SIGKILL: then the run ends without it


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Started:
    name: str
    attempt: int
    pid: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Exited:
    name: str
    attempt: int
    exit: ProcessExit


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StopAsked:
    reason: str
    origin: str
    at_once: bool = False


_Event: TypeAlias = _Started | _Exited | _StopAsked


class Director:
    """Implements :class:`~kourou.runtime.launchers.base.LauncherEvents`.

    Args:
        plan: what to run.
        coordinator: told of every change.
        folder: events and logs go there.
        logs: nodes' lines go there.
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
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._launcher: Launcher | None = None
        self._alive = {node.name for node in plan.nodes}
        self._killed: set[str] = set()
        self._policies = {node.name: node.on_failure for node in plan.nodes}
        self._restarts: dict[str, list[float]] = {}  # when each node was restarted, monotonic
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0  # breaks ties, so that actions are never compared
        self._stopping = False
        self._host = socket.gethostname()
        self.failures: list[ExitRecord] = []
        """Exit records of the nodes that failed, the first failure first."""
        self.crash: Exception | None = None
        """What went wrong in the director itself, should that ever happen."""
        self.changed = threading.Condition()
        """Notified whenever a node has ended."""
        self.ended = threading.Event()
        """Set when all nodes have ended and everything was given back."""

    def start(self, launcher: Launcher) -> None:
        """Start all nodes, and direct them from now on."""
        self._launcher = launcher
        threading.Thread(target=self._direct, name="kourou-director", daemon=True).start()

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """A launcher's event."""
        self._events.put(_Started(name=name, attempt=attempt, pid=pid))

    def on_line(self, name: str, line: str, stream: str) -> None:
        """A launcher's event."""
        del stream
        self._logs.line(name, line)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """A launcher's event."""
        self._events.put(_Exited(name=name, attempt=attempt, exit=exit))

    def request_stop(self, reason: str, origin: str, *, at_once: bool = False) -> None:
        """End the program; ``at_once`` kills without asking. Idempotent."""
        self._events.put(_StopAsked(reason=reason, origin=origin, at_once=at_once))

    def _direct(self) -> None:
        try:
            for node in self._plan.nodes:
                self._start_node(node.name, 1)
            while self._alive or (self._timers and not self._stopping):
                self._step()
        except Exception as error:  # noqa: BLE001 - a run must never seem to have gone well because its director died
            self.crash = error
        finally:
            self._callbacks.close()
            self._on_end()
            self.ended.set()
            with self.changed:
                self.changed.notify_all()

    def _step(self) -> None:
        """Handle one event, or the timer that is due next."""
        wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        try:
            event = self._events.get(timeout=wait_s)
        except queue.Empty:
            heapq.heappop(self._timers)[2]()
            return
        if isinstance(event, _Started):
            self._coordinator.change(event.name, event.attempt, pid=event.pid)
        elif isinstance(event, _Exited):
            self._node_exited(event)
        elif event.at_once:
            self._begin_stop(event)
            self._timers = []
            self._kill()
        else:
            self._begin_stop(event)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, action))

    def _start_node(self, name: str, attempt: int) -> None:
        self._coordinator.change(
            name,
            state=NodeState.STARTING,
            attempt=attempt,
            host=self._host,
            started_at=time.time(),
            endpoint=None,
            pid=None,
            will_restart=False,
        )
        self._assured_launcher.start(name, attempt)

    @property
    def _assured_launcher(self) -> Launcher:
        assert self._launcher is not None  # noqa: S101 - set by start(), before this thread exists
        return self._launcher

    def _node_exited(self, event: _Exited) -> None:
        if event.name not in self._alive:
            return
        self._alive.discard(event.name)
        record = self._judge(event)
        restart_in = self._react(record) if record.state is NodeState.FAILED and not self._stopping else None
        if record.state is NodeState.FAILED and self._stopping and self._policies[record.node] != "ignore":
            self.failures.append(record)
        self._folder.event("exit", **record.to_dict())
        self._callbacks.put(record)
        self._coordinator.change(
            event.name, event.attempt, state=record.state, exit=record, will_restart=restart_in is not None
        )
        if restart_in is not None:
            self._after(restart_in, lambda: self._restart(event.name, event.attempt + 1))
        if self._stopping:
            self._release_if_idle()
        with self.changed:
            self.changed.notify_all()

    def _react(self, record: ExitRecord) -> float | None:
        """Apply the group's policy to a failure: seconds until the restart, or None."""
        policy = self._policies[record.node]
        if policy == "ignore":
            return None
        if isinstance(policy, Restart):
            now = time.monotonic()
            recent = [at for at in self._restarts.get(record.node, []) if now - at < policy.window_s]
            if len(recent) < policy.max_times:
                self._restarts[record.node] = [*recent, now]
                return policy.delay_s(len(recent))
        # Stop first, then the record: whoever calls the dead node finds out that the program stops, too.
        self._begin_stop(_StopAsked(reason=f"{record.node} {record.cause}", origin=record.node))
        return None

    def _restart(self, name: str, attempt: int) -> None:
        self._folder.event("restart", node=name, attempt=attempt)
        self._alive.add(name)
        self._start_node(name, attempt)

    def _judge(self, event: _Exited) -> ExitRecord:
        node = self._coordinator.directory.get(event.name)
        outcome = self._coordinator.outcome(event.name, event.attempt)
        state, cause = self._verdict(event, outcome)
        log = self._folder.log_file(event.name)
        return ExitRecord(
            node=event.name,
            attempt=event.attempt,
            state=state,
            cause=cause,
            code=event.exit.code,
            signal=describe_signal(event.exit.signal) if event.exit.signal else None,
            traceback=outcome.traceback if outcome else "",
            last_lines=event.exit.last_lines,
            log_file=str(log) if log.exists() else None,
            host=node.host if node else self._host,
            pid=node.pid if node else None,
            uptime_s=round(time.time() - node.started_at, 3) if node and node.started_at else 0.0,
        )

    def _verdict(self, event: _Exited, outcome: Outcome | None) -> tuple[NodeState, str]:
        fault = self._fault(event, outcome)
        if fault is None:
            return NodeState.FINISHED, "finished"
        if event.exit.signal is not None and event.name in self._killed:
            return NodeState.KILLED, "did not end in the time that the stop gave it, and was killed"
        return NodeState.FAILED, fault

    def _fault(self, event: _Exited, outcome: Outcome | None) -> str | None:
        """What was wrong with a node's end, the most telling first; None when nothing was."""
        code, number = event.exit.code, event.exit.signal
        faults = (
            (bool(event.exit.verdict), event.exit.verdict),
            (number is not None, f"was killed by {describe_signal(number or 0)}"),
            (outcome is not None and outcome.kind == "raised", f"raised {outcome.exception if outcome else ''}"),
            (code != 0, f"exited with code {code}"),
            (outcome is None and not self._stopping, "exited with code 0 before it had finished (os._exit?)"),
        )
        return next((fault for holds, fault in faults if holds), None)

    def _begin_stop(self, ask: _StopAsked) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._folder.event("stop", reason=ask.reason, origin=ask.origin)
        self._coordinator.broadcast_stop(ask.reason)
        for name in self._alive:
            record = self._coordinator.directory.get(name)
            if record is not None and record.state is not NodeState.STOPPING:
                self._coordinator.change(name, record.attempt, state=NodeState.STOPPING)
        self._timers = []  # no restarts any more
        for record in self._coordinator.directory.all():
            if record.will_restart:
                self._coordinator.change(record.name, will_restart=False)
        timeline = self._plan.stop
        self._after(timeline.ask_s, self._interrupt)
        self._after(timeline.ask_s + timeline.interrupt_s, self._terminate)
        self._after(timeline.ask_s + timeline.interrupt_s + timeline.terminate_s, self._kill)
        self._release_if_idle()

    def _release_if_idle(self) -> None:
        """Nodes that only serve are needed until every node with work of its own has ended."""
        records = [self._coordinator.directory.get(name) for name in self._alive]
        if all(record is not None and record.serves_only for record in records):
            self._coordinator.broadcast_release()

    def _interrupt(self) -> None:
        self._coordinator.broadcast_release()
        for name in self._alive:
            self._assured_launcher.interrupt(name)

    def _terminate(self) -> None:
        for name in self._alive:
            self._folder.event("terminate", node=name)
            self._assured_launcher.terminate(name)

    def _kill(self) -> None:
        for name in self._alive:
            self._folder.event("kill", node=name)
            self._killed.add(name)
            self._assured_launcher.kill(name)
        self._after(_KILLED_WITHIN_S, self._give_up)

    def _give_up(self) -> None:
        for name in list(self._alive):
            record = self._coordinator.directory.get(name)
            lost = ProcessExit(code=None, signal=_SIGKILL)
            self._node_exited(_Exited(name=name, attempt=record.attempt if record else 1, exit=lost))
