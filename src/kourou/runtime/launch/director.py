"""The director: starts a plan's nodes, tells how each ended, and walks the stop timeline. One thread, one queue.

Launchers, the coordinator and the user's threads only put events into its queue, so the state below needs no locks.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import math
import queue
import socket
import threading
import time
from collections.abc import Callable

from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.graph.policies import Restart
from kourou.runtime.launch.events import Event, Exited, PartReady, Placed, Started, StopAsked
from kourou.runtime.launch.exit_callbacks import ExitCallback, ExitCallbacks
from kourou.runtime.launch.exit_records import exit_record_of, unit_exit_record_of
from kourou.runtime.launch.family import Family
from kourou.runtime.launch.slow_starts import SlowStarts
from kourou.runtime.launchers.base import Launcher
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState, Outcome, ProcessExit
from kourou.runtime.output.node_logs import NodeLogs
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.steps import StopSteps
from kourou.runtime.waiting.countdown import Countdown
from kourou.runtime.waiting.event_queue import next_of

__all__ = ["Director"]

_SIGKILL = 9
_CAUSE_ENDS_S = 2.0  # of the process that raised first: its exit handlers may take a moment
_STOP_FOLLOWS_S = 0.5  # a SIGTERM that the launcher got as well: until it asks for the stop


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
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._launcher: Launcher | None = None
        self._family = Family(plan.nodes)
        self._alive: set[str] = set()
        self._killed: dict[str, str] = {}  # whom the director killed, and why
        self._broken: dict[str, tuple[ExitRecord, float | None]] = {}  # units that failed, with the time to a restart
        # A class's constructor does not poll, and nobody needs its object any more when the program stops. A thread is
        # given its time all the same: it might be torn out of the opening of a socket, which would stay.
        threads = plan.launch_type.threads
        self._interrupted_at_once = {n.name for n in plan.nodes if not (threads or n.polls_while_starting)}
        self._policies = {node.name: node.on_failure for node in plan.nodes}
        self._restarts: dict[str, list[float]] = {}  # when each node was restarted, monotonic
        self._unstarted = collections.deque(self._family.roots())
        self._slow_starts = SlowStarts(plan, coordinator, folder)
        self._parts_starting: dict[str, Countdown] = {}  # of each unit
        self._parts_living: dict[str, Countdown] = {}  # of each unit
        self._workers = Countdown((), self._is_no_worker)  # of a program that stops
        self._undecided: list[Exited] = []  # what they are may show in a moment
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0  # breaks ties, so that actions are never compared
        self._stopping = False
        here = socket.gethostname()
        self._hosts = {node.name: node.site.host if node.site else here for node in plan.nodes}
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
        for node in self._plan.nodes:
            self._slow_starts.begin(node.name)
        threading.Thread(target=self._direct, name="kourou-director", daemon=True).start()

    def on_placed(self, name: str, attempt: int, host: str) -> None:
        """A launcher's event."""
        self._events.put(Placed(name=name, attempt=attempt, host=host))

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """A launcher's event."""
        self._events.put(Started(name=name, attempt=attempt, pid=pid))

    def on_line(self, name: str, line: str, stream: str) -> None:
        """A launcher's event."""
        del stream
        self._logs.line(name, line)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """A launcher's event."""
        self._events.put(Exited(name=name, attempt=attempt, exit=exit))

    def on_reported(self, name: str, attempt: int, outcome: Outcome) -> None:
        """A node said how it ended. For one that is a thread of its colocation there is no other sign of it."""
        if self._family.inside(name):
            self._events.put(Exited(name=name, attempt=attempt, exit=ProcessExit(code=outcome.code)))

    def on_changed(self, record: NodeRecord) -> None:
        """A node's record changed. Units are ready when their parts are."""
        unit = self._family.unit_of(record.name)
        if unit is not None and record.state is NodeState.READY:
            self._events.put(PartReady(unit=unit))

    def request_stop(self, reason: str, origin: str, *, at_once: bool = False) -> None:
        """End the program; ``at_once`` kills without asking. Idempotent."""
        self._events.put(StopAsked(reason=reason, origin=origin, at_once=at_once))

    def _direct(self) -> None:
        try:
            while self._unstarted or self._alive or (self._timers and not self._stopping):
                self._step()
        except Exception as error:  # noqa: BLE001 - a run must never seem to have gone well because its director died
            self.crash = error
        finally:
            try:
                self._callbacks.close()
                self._on_end()
            except Exception as error:  # noqa: BLE001 - likewise; and whoever waits for the end must hear of it
                self.crash = self.crash or error
            self.ended.set()
            with self.changed:
                self.changed.notify_all()

    def _step(self) -> None:
        """Handle one event, or the timer that is due, or start the next node: events first, for one may be a Ctrl-C."""
        due = min(self._timers[0][0] if self._timers else math.inf, self._slow_starts.due)
        wait_s = max(0.0, due - time.monotonic()) if due < math.inf else None
        try:
            event = next_of(self._events, 0 if self._unstarted else wait_s)
        except queue.Empty:
            if self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            elif self._slow_starts.due <= time.monotonic():
                self._slow_starts.look()
            elif self._unstarted:
                self._start_node(self._unstarted.popleft())
        else:
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Placed):
            for name in (event.name, *self._family.threads_of(event.name)):
                self._hosts[name] = event.host
                self._coordinator.change(name, event.attempt, host=event.host)
        elif isinstance(event, Started):
            for name in (event.name, *self._family.threads_of(event.name)):
                self._coordinator.change(name, event.attempt, pid=event.pid)
        elif isinstance(event, Exited):
            self._node_exited(event)
        elif isinstance(event, PartReady):
            self._part_ready(event.unit)
        elif event.at_once and self._stopping:
            self._timers = []
            for seconds, step in self._stop_steps(event.reason).at_once():
                self._after(seconds, step)
        else:
            self._begin_stop(event)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, action))

    def _record(self, name: str) -> NodeRecord:
        record = self._coordinator.directory.get(name)
        assert record is not None  # noqa: S101 - the directory has all nodes of the plan from the start
        return record

    def _start_node(self, name: str) -> None:
        attempt = self._record(name).attempt + 1
        self._alive.add(name)
        self._killed.pop(name, None)
        self._slow_starts.begin(name)
        self._coordinator.change(
            name,
            state=NodeState.STARTING,
            attempt=attempt,
            host=self._hosts[name],
            started_at=time.time(),
            endpoint=None,
            pid=None,
            will_restart=False,
        )
        children = self._family.children(name)
        self._parts_starting[name] = Countdown(children, lambda n: self._record(n).state is not NodeState.STARTING)
        self._parts_living[name] = Countdown(children, lambda n: self._record(n).gone)
        for child in children:  # first, since a colocation publishes for those that it runs
            self._start_node(child)
        if self._family.launched(name):
            self._assured_launcher.start(name, attempt)

    def _part_ready(self, unit: str) -> None:
        if self._record(unit).state is NodeState.STARTING and self._parts_starting[unit].done():
            self._coordinator.change(unit, state=NodeState.READY)

    @property
    def _assured_launcher(self) -> Launcher:
        assert self._launcher is not None  # noqa: S101 - set by start(), before this thread exists
        return self._launcher

    def _launched(self) -> list[str]:
        """The living nodes that the launcher knows."""
        return [name for name in self._alive if self._family.launched(name)]

    def _node_exited(self, event: Exited) -> None:
        node = self._record(event.name)
        if event.name not in self._alive or event.attempt != node.attempt:
            return
        if event.exit.signal and event.exit.terminated and not self._stopping and event not in self._undecided:
            # Slurm, systemd and Docker send it to all processes at once, and the launcher's may not have come yet.
            self._undecided.append(event)
            self._after(_STOP_FOLLOWS_S, lambda: self._node_exited(event))
            return
        if event not in self._undecided and self._follows_another(event):
            self._undecided.append(event)
            self._after(_CAUSE_ENDS_S, lambda: self._node_exited(event))
            return
        for child in self._family.threads_of(event.name):
            self._node_exited(dataclasses.replace(event, name=child))
        self._alive.discard(event.name)
        record = exit_record_of(
            node,
            event.exit,
            self._coordinator.outcome(event.name, event.attempt),
            killed=self._killed.get(event.name),
            stopping=self._stopping,
            log_file=self._folder.log_file(event.name),
        )
        # What a thread's failure leads to is decided when its colocation ends of it.
        failed = record.state is NodeState.FAILED and not self._family.inside(event.name)
        self._record_exit(record, self._react(record) if failed else None)
        unit = self._family.unit_of(event.name)
        for later in [other for other in self._undecided if unit and self._family.unit_of(other.name) == unit]:
            self._node_exited(later)

    def _follows_another(self, event: Exited) -> bool:
        """Whether another part of its unit raised first and is about to end: ranks fail when one of them is gone."""
        unit = self._family.unit_of(event.name)
        outcome = self._coordinator.outcome(event.name, event.attempt)
        if unit is None or self._stopping or unit in self._broken or outcome is None or outcome.kind != "raised":
            return False
        parts = (name for name in self._family.children(unit) if name in self._alive)
        return self._coordinator.first_that_raised({name: self._record(name).attempt for name in parts}) != event.name

    def _record_exit(self, record: ExitRecord, restart_in: float | None) -> None:
        """Make an end known, and do what follows from it."""
        name = record.node
        will_restart = restart_in is not None or self._may_restart_with_parent(record)
        self._folder.event("exit", **record.to_dict())
        self._callbacks.put(record)
        self._coordinator.change(name, state=record.state, exit=record, will_restart=will_restart)
        for child in self._family.below(name):
            if self._record(child).will_restart is not will_restart:
                self._coordinator.change(child, will_restart=will_restart)
        if restart_in is not None:
            self._after(restart_in, lambda: self._restart(name))
        self._end_unit_without_parts(self._family.unit_of(name))
        if self._stopping:
            self._release_if_idle()
        with self.changed:
            self.changed.notify_all()

    def _may_restart_with_parent(self, record: ExitRecord) -> bool:
        """For a thread that failed: its callers shall wait until it is known what becomes of its colocation."""
        restarts = isinstance(self._policies[record.node], Restart) and not self._stopping
        return restarts and self._family.inside(record.node) and record.state is NodeState.FAILED

    def _react(self, record: ExitRecord) -> float | None:
        """Apply the policy to a failure: seconds until the restart, or None."""
        policy = self._policies[record.node]
        if policy == "ignore" or any(unit in self._broken for unit in self._family.above(record.node)):
            return None
        if isinstance(policy, Restart) and not self._stopping:
            now = time.monotonic()
            recent = [at for at in self._restarts.get(record.node, []) if now - at < policy.window_s]
            if len(recent) < policy.max_times:
                self._restarts[record.node] = [*recent, now]
                return policy.delay_s(len(recent))
        unit = self._family.unit_of(record.node)
        if unit is not None:
            self._fail_unit(unit, record)
            return None
        # Stop first, then the record: whoever calls the dead node finds out that the program stops, too.
        self._begin_stop(StopAsked(reason=f"{record.node} {record.cause}", origin=record.node))
        self.failures.append(record)
        return None

    def _restart(self, name: str) -> None:
        node = self._record(name)
        if not node.will_restart:
            return  # its unit failed meanwhile
        self._folder.event("restart", node=name, attempt=node.attempt + 1)
        for child in self._family.below(name):
            self._restarts.pop(child, None)
        self._start_node(name)

    def _fail_unit(self, unit: str, part: ExitRecord) -> None:
        """A part failed for good, and the unit with it: unless the program stops anyway, the others are killed."""
        if unit in self._broken:
            return
        cause = f"{part.cause} (in {part.node})"
        failure = dataclasses.replace(part, node=unit, attempt=self._record(unit).attempt, cause=cause)
        self._broken[unit] = failure, self._react(failure)
        if self._stopping:
            return
        for name in self._family.below(unit):
            if self._record(name).will_restart:
                self._coordinator.change(name, will_restart=False)
            if name in self._alive and self._family.launched(name):
                for killed in (name, *self._family.threads_of(name)):
                    self._killed[killed] = f"was killed, because {part.node} of the same colocation failed"
                self._assured_launcher.interrupt(name)  # for a thread, which cannot be killed
                self._assured_launcher.kill(name)

    def _end_unit_without_parts(self, unit: str | None) -> None:
        """A unit ends when none of its parts lives, or will again."""
        if unit is None or unit not in self._alive or not self._parts_living[unit].done():
            return
        parts = [self._record(child) for child in self._family.children(unit)]
        self._alive.discard(unit)
        failure, restart_in = self._broken.pop(unit, (None, None))
        if self._stopping:
            restart_in = None
        self._record_exit(failure or unit_exit_record_of(self._record(unit), parts), restart_in)

    def _begin_stop(self, ask: StopAsked) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._folder.event("stop", reason=ask.reason, origin=ask.origin)
        self._coordinator.broadcast_stop(ask.reason)
        self._slow_starts.end()
        self._leave_unstarted()
        self._workers = Countdown(self._alive, self._is_no_worker)
        for name in self._alive:
            record = self._coordinator.directory.get(name)
            if record is not None and record.state is not NodeState.STOPPING:
                self._coordinator.change(name, record.attempt, state=NodeState.STOPPING)
                if record.state is NodeState.STARTING and name in self._interrupted_at_once:
                    self._assured_launcher.interrupt(name)
        self._timers = []  # no restarts any more
        for event in self._undecided:
            self._events.put(event)
        for record in self._coordinator.directory.all():
            if record.will_restart:
                self._coordinator.change(record.name, will_restart=False)
        for unit in self._family.units():
            self._end_unit_without_parts(unit)
        steps = self._stop_steps(ask.reason)
        for seconds, step in steps.at_once() if ask.at_once else steps.schedule():
            self._after(seconds, step)
        self._release_if_idle()

    def _leave_unstarted(self) -> None:
        for root in self._unstarted:
            for name in (root, *self._family.below(root)):
                cause = "was not started, because the program stopped"
                end = ExitRecord(node=name, attempt=0, state=NodeState.FINISHED, cause=cause)
                self._coordinator.change(name, state=end.state, exit=end)
        self._unstarted.clear()

    def _release_if_idle(self) -> None:
        """Nodes that only serve are needed until every node with work of its own has ended."""
        if self._workers.done():
            self._coordinator.broadcast_release()

    def _is_no_worker(self, name: str) -> bool:
        return name not in self._alive or self._record(name).serves_only

    def _stop_steps(self, reason: str) -> StopSteps:
        return StopSteps(
            self._plan.stop,
            reason,
            running=lambda: map(self._record, self._launched()),
            launcher=self._assured_launcher,
            release=self._coordinator.broadcast_release,
            folder=self._folder,
            on_killed=self._note_killed,
            on_lost=self._leave_behind,
        )

    def _note_killed(self, name: str) -> None:
        for killed in (name, *self._family.threads_of(name)):
            self._killed[killed] = "did not end in the time that the stop gave it, and was killed"

    def _leave_behind(self, name: str) -> None:
        lost = ProcessExit(code=None, signal=_SIGKILL)
        self._node_exited(Exited(name=name, attempt=self._record(name).attempt, exit=lost))
