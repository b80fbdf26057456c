"""What the director decides: an event comes in, a list of instructions goes out. No clock, thread, socket or launcher.

Whoever uses it hands over every event with the time at which it came, carries out the instructions in order, and hands
over :class:`~kourou.runtime.model.events.Due` when nothing else has come until ``due``. Times are of one
clock that never goes back. Nothing here takes longer the more nodes a program has, but what concerns all of them: a
stop, and the line about those that are not ready.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import signal
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.launch.decisions.exit_records import exit_record_of, removed_by
from kourou.runtime.launch.decisions.held_exits import HeldExits
from kourou.runtime.launch.decisions.node_table import NodeTable
from kourou.runtime.launch.decisions.only_servers import OnlyServers
from kourou.runtime.launch.decisions.program_stop import ProgramStop
from kourou.runtime.launch.decisions.removals import Removals
from kourou.runtime.launch.decisions.slow_starts import SlowStarts
from kourou.runtime.launch.decisions.timers import Decision, RemovalStep, Restarting, Timers
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.launch.decisions.units import Units
from kourou.runtime.model import events, instructions as do
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState, Outcome, ProcessExit
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.stopping.steps import StopStep, StopSteps

_NOT_IN_TIME = "did not end in the time that the stop gave it, and was killed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddAsked:
    """Somebody wants these nodes to run as well."""

    nodes: tuple[NodePlan, ...]
    """Of a colocation its children, too."""
    origin: str


Event: TypeAlias = events.Event | AddAsked  # which holds plans


class StateMachine:
    """The state of a run.

    Args:
        plan: what is to run.
        run_id: the run's name.
        here: the host of nodes that no other is given.
        log_file: where a node's output goes.
        now: the time.
    """

    def __init__(
        self, plan: LaunchPlan, *, run_id: str, here: str, log_file: Callable[[str], object], now: float
    ) -> None:
        self._plan = plan
        self._log_file = log_file
        self._now = now
        self._table = table = NodeTable(here)
        self._tree, self._nodes, self._alive = table.tree, table.nodes, table.alive
        self._do, self._change = table.do, table.change
        self._unstarted: collections.deque[str] = collections.deque()
        self._held = HeldExits(self._tree, self._nodes, self._alive)
        self._decided: collections.deque[tuple[str, ProcessExit]] = collections.deque()  # held no longer, to be judged
        self._timers = Timers()
        self._units = Units(table, self._timers)
        self._stop = ProgramStop(table, self._timers)
        self._removals = Removals(table, self._timers)
        self._slow_starts = SlowStarts(self._nodes, run_id=run_id, log_file=log_file)
        self._only_servers = OnlyServers(self._nodes, run_id=run_id)
        self._take_in(plan.nodes)

    @property
    def due(self) -> float:
        """When to hand over events.Due if nothing else has come: in the past if at once, infinite if never."""
        return -math.inf if self._unstarted else min(self._timers.due, self._slow_starts.due, self._only_servers.due)

    @property
    def ended(self) -> bool:
        """No node runs, or will."""
        return not (self._unstarted or self._alive or (self._timers and not self._stopping))

    def handle(self, event: Event, now: float) -> list[do.Instruction]:
        """What is to be done after this event, which came at that time."""
        self._now = now
        if isinstance(event, events.OfAttempt):
            node = self._nodes.get(event.name)
            if node is not None and node.attempt == event.attempt and event.name in self._alive:
                self._hear(node, event)
        elif isinstance(event, events.StopAsked):
            self._stop_asked(event)
        elif isinstance(event, events.RestartAsked):
            self._restart_asked(event)
        elif isinstance(event, AddAsked):
            self._add_asked(event)
        elif isinstance(event, events.RemoveAsked):
            self._remove_asked(event)
        elif isinstance(event, events.Due):
            self._take_due()
        while self._decided:
            name, exit = self._decided.popleft()  # noqa: A001 - it is an exit
            self._judge(self._nodes[name], exit)
        instructions, self._table.instructions = self._table.instructions, []
        return instructions

    @property
    def _stopping(self) -> bool:
        return self._stop.begun

    # --- What happens to a node

    def _hear(self, node: TrackedNode, event: events.OfAttempt) -> None:
        if isinstance(event, events.Placed):
            if node.exit is not None and node.exit.host not in {"", event.host}:
                told = f"attempt {event.attempt} is on {event.host}, the one before was on {node.exit.host}"
                self._do(do.Tell(name=node.name, text=told))
            for each in self._table.with_threads(node):
                self._change(each, host=event.host)
        elif isinstance(event, events.Started):
            for each in self._table.with_threads(node):
                self._change(each, pid=event.pid)
        elif isinstance(event, events.Attached):
            node.attached = True
        elif isinstance(event, events.Published):
            self._published(node, event)
        elif isinstance(event, events.Reported):
            self._reported(node, event.outcome)
        elif isinstance(event, events.Exited):
            self._exited(node, event.exit)

    def _published(self, node: TrackedNode, event: events.Published) -> None:
        node.serves_only = event.serves_only
        if event.ready and node.state is NodeState.STARTING:
            node.state = NodeState.READY
            self._units.note_ready(node.name)

    def _reported(self, node: TrackedNode, outcome: Outcome) -> None:
        node.outcome = outcome
        if outcome.kind == "raised":
            self._held.note_raised(node.name)
        if self._tree.inside(node.name):
            self._exited(node, ProcessExit(code=outcome.code))

    # --- What is due

    def _take_due(self) -> None:
        """Do what is due: one thing, since another event may have come meanwhile, and be a Ctrl-C."""
        timer = self._timers.take(self._now)
        if isinstance(timer, Restarting):
            self._restart(self._nodes[timer.name])
        elif isinstance(timer, Decision):
            self._decided += self._held.take(timer.name)
        elif isinstance(timer, RemovalStep):
            self._removals.take(timer)
        elif isinstance(timer, StopStep):
            self._stop.take(timer)
        elif self._slow_starts.due <= self._now:
            self._table.instructions += self._slow_starts.look(self._now)
        elif self._only_servers.due <= self._now:
            self._table.instructions += self._only_servers.look()
        elif self._unstarted:
            self._start(self._unstarted.popleft())

    def _start(self, name: str) -> None:
        node = self._nodes[name]
        node.begin(self._now)
        self._alive[name] = node
        self._slow_starts.begin(name, self._now)
        self._do(do.Begin(name=name, attempt=node.attempt, host=node.host))
        children = self._tree.children(name)
        if children:
            self._units.begin(name)
        for child in children:  # first, since a colocation publishes for those that it runs
            self._start(child)
        if self._tree.launched(name):
            self._do(do.Launch(name=name, attempt=node.attempt))

    def _restart(self, node: TrackedNode) -> None:
        self._do(do.Write(event="restart", fields={"node": node.name, "attempt": node.attempt + 1}))
        for child in self._table.below(node.name):
            child.restarts.clear()
        self._start(node.name)

    def _restart_asked(self, ask: events.RestartAsked) -> None:
        """End a node, or all parts of a unit, to start it again. What is not there any more stays as it is."""
        for name in (ask.name, *self._tree.below(ask.name)) if ask.name in self._nodes else ():
            node = self._nodes[name]
            if not self._table.is_launched(name) or self._stopping or node.removed:
                continue
            node.restart_asked = ask.origin
            self._table.note_killed(name, f"was ended to be started again: {ask.origin}")
            self._do(do.Signal(name=name, number=signal.SIGKILL))

    def _answer_restart(self, node: TrackedNode, record: ExitRecord) -> float | None:
        """Seconds until the restart that somebody asked for, which counts for no policy; None: nobody did."""
        if node.restart_asked is None or self._stopping or self._units.in_broken(node.name):
            return None
        self._tell(record, "it starts again")
        return 0.0

    # --- How a node ended, and what follows from it

    def _exited(self, node: TrackedNode, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        if node.name in self._held:
            return  # told twice
        unit = self._tree.unit_of(node.name)
        is_clear = self._stopping or node.removed or self._units.is_broken(unit)
        wait_s = None if is_clear else self._held.wait_s(node.name, exit)
        if wait_s is None:
            self._judge(node, exit)
        else:
            self._held.hold(node.name, exit)
            self._timers.set(self._now + wait_s, Decision(name=node.name))

    def _judge(self, node: TrackedNode, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        for child in self._tree.threads_of(node.name):
            if child in self._alive:
                self._judge(self._nodes[child], exit)
        del self._alive[node.name]
        log_file = str(self._log_file(node.name))
        record = exit_record_of(node, exit, stopping=self._stopping, now=self._now, log_file=log_file)
        # What a thread's failure leads to is decided when its colocation ends of it.
        failed = record.state is NodeState.FAILED and not self._tree.inside(node.name)
        restart_in = self._answer_restart(node, record)
        self._end(node, record, self._react(record) if failed and restart_in is None else restart_in)
        unit = self._tree.unit_of(node.name)
        if unit is not None:
            for name, held in self._held.take_unit(unit):
                self._timers.discard(Decision(name=name))
                self._decided.append((name, held))

    def _end(self, node: TrackedNode, record: ExitRecord, restart_in: float | None) -> None:
        """Make an end known, and do what follows from it."""
        node.state, node.exit = record.state, record
        if node.removed:
            restart_in = None
            self._removals.end(node.name)
        node.will_restart = restart_in is not None or self._may_restart_with_parent(node)
        self._do(do.End(record=record, will_restart=node.will_restart))
        for child in self._table.below(node.name):
            if child.will_restart is not node.will_restart:
                self._change(child, will_restart=node.will_restart)
        if restart_in is not None:
            self._timers.set(self._now + restart_in, Restarting(name=node.name))
        self._end_unit_without_parts(self._tree.unit_of(node.name))
        if self._stopping:
            self._stop.release_if_idle()
        elif not node.removed:
            self._only_servers.note_end(self._now)

    def _may_restart_with_parent(self, node: TrackedNode) -> bool:
        """For a thread that failed, or ended with one: its callers wait until its colocation's fate is known."""
        restarts = isinstance(node.plan.on_failure, Restart) and not self._stopping and not node.removed
        return self._tree.inside(node.name) and self._table.has_failed_thread(node) and restarts

    def _react(self, record: ExitRecord) -> float | None:
        """Apply the policy to a failure: seconds until the restart, or None."""
        node = self._nodes[record.node]
        policy = node.plan.on_failure
        if self._units.in_broken(node.name):
            return None
        if node.removed:
            self._tell(record, "the program goes on without it")
            return None
        if policy == "ignore":
            self._tell(record, "it is left at that (on_failure='ignore')")
            return None
        if isinstance(policy, Restart) and not self._stopping:
            restart_in = node.take_restart(policy, self._now)
            budget = f"{policy.max_times} in {policy.window_s:g} s"
            if restart_in is not None:
                self._tell(record, f"it starts again in {restart_in:g} s (restart {len(node.restarts)} of {budget})")
                return restart_in
            self._tell(record, f"all restarts are used up ({budget})")
        unit = self._tree.unit_of(node.name)
        if unit is not None:
            self._fail_unit(unit, record)
            return None
        # Stop first, then the record: whoever calls the dead node finds out that the program stops, too.
        if not self._stopping:
            self._begin_stop(events.StopAsked(reason=f"{record.node} {record.cause}", origin=record.node))
        self._do(do.Fail(record=record))
        return None

    def _tell(self, record: ExitRecord, consequence: str) -> None:
        """Say in the node's log what its failure leads to."""
        attempt = f"attempt {record.attempt}, after {record.uptime_s:.1f} s"
        self._do(do.Tell(name=record.node, text=f"{record.cause} ({attempt}); {consequence}"))

    # --- Colocations that are units

    def _fail_unit(self, unit: str, part: ExitRecord) -> None:
        """A part failed for good, and the unit with it: unless the program stops anyway, the others are killed."""
        cause = f"{part.cause} (in {part.node})"
        failure = dataclasses.replace(part, node=unit, attempt=self._nodes[unit].attempt, cause=cause)
        self._units.note_broken(failure, self._react(failure))
        if self._stopping:
            return
        self._units.kill_parts(unit, part.node)
        for inner in self._tree.units_below(unit):  # one whose parts only waited for their restart
            self._end_unit_without_parts(inner)

    def _end_unit_without_parts(self, unit: str | None) -> None:
        """A unit ends when none of its parts lives, or will again."""
        if unit is None or not self._units.is_over(unit):
            return
        node = self._alive.pop(unit)
        record, restart_in = self._units.take_end(node, self._now)
        self._end(node, record, None if self._stopping else restart_in)

    # --- Nodes that come and go

    def _take_in(self, plans: tuple[NodePlan, ...]) -> None:
        """There are these nodes, which are to be started."""
        self._table.add(plans)
        for plan in plans:
            self._slow_starts.begin(plan.name, self._now)
        self._only_servers.begin(plan.name for plan in plans)
        self._unstarted += [plan.name for plan in plans if plan.parent is None]

    def _add_asked(self, ask: AddAsked) -> None:
        if not self._stopping:
            self._take_in(ask.nodes)
            records = tuple(NodeRecord(name=node.name, serves_only=node.serves_only) for node in ask.nodes)
            self._do(do.Add(records=records, origin=ask.origin))

    def _remove_asked(self, ask: events.RemoveAsked) -> None:
        """Stop nodes, as a whole program is stopped, and go on without them. What has ended for good stays as it is."""
        for name in ask.names:
            node = self._nodes.get(name)
            if node is None or node.gone or node.removed or node.plan.parent is not None or self._stopping:
                continue
            self._do(do.Write(event="remove", fields={"node": name, "origin": ask.origin}))
            tree = (name, *self._tree.below(name))
            self._removals.begin(name, ask.origin)
            if name in self._unstarted:
                self._unstarted.remove(name)
            for unit in self._tree.units_of(name):
                self._end_unit_without_parts(unit)  # its parts may only have waited for their restart
            if name in self._alive:
                steps = self._stop_steps(removed_by(ask.origin), tree, lambda: None)
                self._removals.schedule(name, steps, self._now)

    # --- The stop

    def _stop_asked(self, ask: events.StopAsked) -> None:
        if not self._stopping:
            self._begin_stop(ask)
        elif ask.at_once:
            self._timers.clear()
            self._stop.schedule(self._now, at_once=True)

    def _begin_stop(self, ask: events.StopAsked) -> None:
        self._stop.begin(self._stop_steps(ask.reason, self._alive, self._stop.release))
        self._do(do.Write(event="stop", fields={"reason": ask.reason, "origin": ask.origin}))
        self._do(do.Stop(reason=ask.reason))
        self._slow_starts.end()
        self._only_servers.end()
        self._leave_unstarted()
        for node in self._alive.values():
            self._table.let_stop(node)
        self._timers.clear()  # no restarts any more, and what is being removed ends with the others
        self._removals.clear()
        self._decided += self._held.take_all()
        for node in self._nodes.values():
            if node.will_restart:
                self._change(node, will_restart=False)
        for unit in self._tree.units():
            self._end_unit_without_parts(unit)
        self._stop.schedule(self._now, at_once=ask.at_once)
        self._stop.release_if_idle()

    def _leave_unstarted(self) -> None:
        for root in self._unstarted:
            for node in (self._nodes[root], *self._table.below(root)):
                self._table.never_start(node, "was not started, because the program stopped")
        self._unstarted.clear()

    def _stop_steps(self, reason: str, names: Iterable[str], release: Callable[[], None]) -> StopSteps:
        return StopSteps(
            self._plan.stop,
            reason,
            running=lambda: self._table.launched(names),
            do=self._do,
            release=release,
            on_killed=lambda name: self._table.note_killed(name, _NOT_IN_TIME),
            on_lost=lambda name: self._judge(self._nodes[name], ProcessExit(code=None, signal=signal.SIGKILL)),
        )
