"""A run under a simulated clock: the director's state machine, the coordinator and the placement are the real ones."""

from __future__ import annotations

import collections
import dataclasses
import random
import signal
import time
from typing import Any

from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.launch.decisions.state_machine import AddAsked, Event, StateMachine
from kourou.runtime.launchers.base import LauncherEvents
from kourou.runtime.model import instructions as do
from kourou.runtime.model.events import Due, Exited, Placed, RemoveAsked, Started, StopAsked
from kourou.runtime.model.names import label_of, root_of
from kourou.runtime.model.records import NodeRecord, NodeState, ProcessExit
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.simulation.faults import Faults
from kourou.runtime.simulation.hosts import SimulatedHost, SimulatedLauncher
from kourou.runtime.simulation.invariants import InvariantBroken, Invariants
from kourou.runtime.simulation.processes import Clock, Network, World
from kourou.runtime.simulation.scaled_plan import copied

_HOUR_S = 3600.0
_TIME_IS_OVER = "the simulated time is over"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a simulation found. Times are simulated but for ``wall_s``."""

    nodes: int
    hosts: int
    seed: int
    all_ready_s: float | None
    """Until all nodes were READY for the first time; None: they never were."""
    ended_s: float
    stop_s: float | None
    """From the stop until the last node had ended."""
    stop_reason: str
    failures: int
    """Failures that were the program's."""
    events: int
    """That the director was told."""
    instructions: int
    messages: int
    """Between nodes and coordinator."""
    most_instructions: int
    """That followed from one event, before the stop."""
    decisions: dict[str, int]
    wall_s: float
    broken: str | None = None
    """What does not hold, though it must."""

    @property
    def failed(self) -> bool:
        """The program ended before its time, since a node failed for good."""
        return self.failures > 0

    @property
    def event_us(self) -> float:
        """Of this machine's time, for each event, with all that followed from it."""
        return self.wall_s / max(1, self.events) * 1e6

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {**dataclasses.asdict(self), "event_us": round(self.event_us, 1)}


def simulate(plan: LaunchPlan, *, seed: int, faults: Faults, duration_s: float) -> Report:
    """Let a plan's run happen, and stop it after a while.

    Args:
        plan: of several hosts.
        seed: the same one leads to the same run.
        faults: what goes wrong.
        duration_s: simulated seconds until the stop.
    """
    return Simulation(plan, seed=seed, faults=faults).run(duration_s)


class Simulation(LauncherEvents):
    """For arguments see :func:`simulate`."""

    def __init__(self, plan: LaunchPlan, *, seed: int, faults: Faults) -> None:
        assert plan.hosts is not None  # noqa: S101 - a plan of several hosts
        self.clock = Clock()
        self.invariants = Invariants(plan)
        self.coordinator = Coordinator(
            [NodeRecord(name=node.name, serves_only=node.serves_only) for node in plan.nodes],
            on_change=self._on_change,
            tell_director=self._tell,
        )
        self._plan = plan
        self._seed = seed
        self._faults = faults
        self._chance = random.Random(seed)  # noqa: S311 - no secret depends on it
        self._network = Network(self.clock, self._chance, faults)
        world = World(
            clock=self.clock,
            chance=self._chance,
            faults=faults,
            coordinator=self.coordinator,
            network=self._network,
            watching=self.invariants,
        )
        self.launcher = SimulatedLauncher(plan, plan.hosts, self, world)
        self._machine = StateMachine(plan, run_id="simulated", here="here", log_file=lambda name: f"{name}.log", now=0)
        self._events: collections.deque[Event] = collections.deque()
        self._is_directing = False
        self._own = [node.name for node in plan.nodes if node.process is not None]
        self._not_ready = {node.name for node in plan.nodes}
        self._all_ready_s: float | None = None
        self._stopped_at: float | None = None
        self._told = self._instructed = self._most = self._failures = 0
        self._decisions: collections.Counter[str] = collections.Counter()

    def run(self, duration_s: float) -> Report:
        """Let it happen."""
        began = time.perf_counter()
        broken = None
        self.clock.at(duration_s, self._end)
        self._schedule_faults(duration_s)
        try:
            while not self._machine.ended:
                self._step()
                due = min(self._machine.due, self.clock.due)
                self.invariants.check(ended=self._machine.ended, due=due, now=self.clock.now)
        except InvariantBroken as error:
            broken = f"after {self.clock.now:.3f} s: {error}"
        return self._report(time.perf_counter() - began, broken)

    def _report(self, wall_s: float, broken: str | None) -> Report:
        return Report(
            nodes=len(self._plan.nodes),
            hosts=len(self.launcher.hosts),
            seed=self._seed,
            all_ready_s=self._all_ready_s,
            ended_s=self.clock.now,
            stop_s=None if self._stopped_at is None else self.clock.now - self._stopped_at,
            stop_reason=self.coordinator.stop_reason or "",
            failures=self._failures,
            events=self._told,
            instructions=self._instructed,
            messages=self._network.messages,
            most_instructions=self._most,
            decisions=dict(sorted((self._decisions + self.launcher.decisions).items())),
            wall_s=wall_s,
            broken=broken,
        )

    # -- the director's shell -------------------------------------------------------------------------------------

    def _step(self) -> None:
        """What comes next: events before what is due, as in a real run."""
        if self.clock.due <= max(self.clock.now, self._machine.due):
            self.clock.step()
        else:
            self.clock.now = max(self.clock.now, self._machine.due)
            self._tell(Due())

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if self._is_directing:
            return  # it waits in the director's queue
        self._is_directing = True
        while self._events and not self._machine.ended:
            instructions = self._machine.handle(self._events.popleft(), self.clock.now)
            self._told += 1
            self._instructed += len(instructions)
            for instruction in instructions:
                self.invariants.instructed(instruction, self.clock.now)
                self._carry_out(instruction)
            if self._stopped_at is None:
                self._most = max(self._most, len(instructions))
        self._is_directing = False

    def _carry_out(self, instruction: do.Instruction) -> None:  # noqa: C901 - a case each
        match instruction:
            case do.Begin(name=name, attempt=attempt, host=host):
                self._decisions["restarted" if attempt > 1 else "started"] += 1
                self.coordinator.change(
                    name, state=NodeState.STARTING, attempt=attempt, host=host, endpoint=None, pid=None
                )
            case do.Change(name=name, changes=changes):
                self.coordinator.change(name, **changes)
            case do.End(record=record, will_restart=will_restart):
                self._decisions[f"ended {record.state}"] += 1
                self.coordinator.change(record.node, state=record.state, exit=record, will_restart=will_restart)
            case do.Fail():
                self._failures += 1
            case do.Launch(name=name, attempt=attempt):
                self.launcher.start(name, attempt)
            case do.Signal(name=name, number=number):
                self._decisions["killed"] += number == signal.SIGKILL
                self.launcher.signal(name, number)
            case do.Stop(reason=reason):
                self._stopped_at = self.clock.now
                self.coordinator.broadcast_stop(reason)
            case do.Release():
                self.coordinator.broadcast_release()
            case do.Add(records=records):
                self.coordinator.add(records)
            case do.Dismiss(name=name, origin=origin):
                self.coordinator.dismiss(name, origin)

    def _on_change(self, record: NodeRecord) -> None:
        name = record.name
        self.invariants.recorded(record)
        if record.state is NodeState.READY:
            self._not_ready.discard(name)
            if not self._not_ready and self._all_ready_s is None:
                self._all_ready_s = self.clock.now

    # -- what the launcher tells ----------------------------------------------------------------------------------

    def on_placed(self, name: str, attempt: int, host: str) -> None:
        self._tell(Placed(name=name, attempt=attempt, host=host))

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        self._tell(Started(name=name, attempt=attempt, pid=pid))

    def on_line(self, name: str, line: str, stream: str) -> None:
        """See ``LauncherEvents``."""

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        self._tell(Exited(name=name, attempt=attempt, exit=exit))

    # -- processes, and faults ------------------------------------------------------------------------------------

    def _schedule_faults(self, duration_s: float) -> None:
        hosts = list(self.launcher.hosts.values())
        own = self._own
        for rate, count, strike in (
            (self._faults.node_per_hour, len(own), lambda: self._fail(self._chance.choice(own))),
            (self._faults.host_per_hour, len(hosts), lambda: self._strike(self._chance.choice(hosts))),
            (self._faults.cut_per_hour, len(hosts), lambda: self._cut(self._chance.choice(hosts))),
            (self._faults.resizes_per_hour, 1, self._resize),
        ):
            at = 0.0
            while rate and (at := at + self._chance.expovariate(rate * count / _HOUR_S)) < duration_s:
                self.clock.at(at, strike)

    def _end(self) -> None:
        """The time is over. Whoever has heard all that was said by now knows of each other node what is known."""
        directory = self.coordinator.directory
        self._decisions["hosts lost at the end"] = sum(host.lost for host in self.launcher.hosts.values())
        for host in self.launcher.hosts.values():
            for process in host.processes.values() if host.cut_until <= self.clock.now else ():
                if process.has_heard_all:
                    self.invariants.knows(process.node.name, process.seen.values(), directory.get)
        self._tell(StopAsked(reason=_TIME_IS_OVER, origin="simulation"))

    def _strike(self, host: SimulatedHost) -> None:
        self._decisions["fault: host died"] += 1
        self.launcher.die(host)

    def _cut(self, host: SimulatedHost) -> None:
        self._decisions["fault: host cut off"] += 1
        self.launcher.cut_off(host, self._chance.uniform(0.0, self._faults.cut_s))

    def _resize(self) -> None:
        """Somebody adds a node like another one of the plan, or removes one."""
        roots = [record.name for record in self.coordinator.directory.all() if root_of(record.name) == record.name]
        if self._chance.random() < 0.5:  # noqa: PLR2004 - as often this as that
            self._decisions["resize: a node removed"] += 1
            self._tell(RemoveAsked(names=(self._chance.choice(roots),), origin="simulation"))
            return
        self._decisions["resize: a node added"] += 1
        template = self._chance.choice([node.name for node in self._plan.nodes if node.parent is None])
        family = [node for node in self._plan.nodes if root_of(node.name) == template]
        new = copied(family, template, f"{label_of(template)}/{len(roots)}")
        self.launcher.add(new)
        self.invariants.add(new)
        self._own += [node.name for node in new if node.process is not None]
        self._tell(AddAsked(nodes=tuple(new), origin="simulation"))

    def _fail(self, name: str) -> None:
        record = self.coordinator.directory.get(name)
        host = self.launcher.hosts.get(record.host) if record else None
        process = host.processes.get(name) if host else None
        if process is not None:
            self._decisions["fault: node failed"] += 1
            process.fail()
