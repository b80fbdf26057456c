"""A simulated node's process: it attaches to the coordinator, becomes READY, follows others, ends when it is told."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import random
import signal
from collections.abc import Callable, Iterable
from typing import Protocol

from kourou.runtime.control.coordinator import Coordinator, Watcher
from kourou.runtime.control.node_events import Release, Stop, Welcome
from kourou.runtime.model.records import INTERRUPT, NodeRecord, NodeState, Outcome, ProcessExit
from kourou.runtime.plan.plan import NodePlan
from kourou.runtime.simulation.faults import Faults
from kourou.runtime.simulation.invariants import Invariants


class Clock:
    """What is still to happen; of what is due at the same time, the first that was said comes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        """Calls so far."""
        self._calls: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._count = 0

    @property
    def due(self) -> float:
        """When the next call is; infinite if there is none."""
        return self._calls[0][0] if self._calls else math.inf

    def after(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        """Make the call in so many seconds."""
        self.at(self.now + seconds, call, *args)

    def at(self, time: float, call: Callable[..., object], *args: object) -> None:
        """Make the call at that time."""
        self._count += 1
        heapq.heappush(self._calls, (time, self._count, call, args))

    def step(self) -> None:
        """Make the next call."""
        self.now, _, call, args = heapq.heappop(self._calls)
        self.made += 1
        call(*args)


_IMPORT_S = (0.3, 3.0)  # from the welcome until it is READY
_END_S = (0.01, 0.5)  # from the stop until its code has ended
_ASK_AGAIN_S = 10.0  # after a call that was not answered
_pids = itertools.count(1000)


class Network:
    """Between nodes and the coordinator: each message takes its time, and calls may be lost and made again."""

    def __init__(self, clock: Clock, chance: random.Random, faults: Faults) -> None:
        self.messages = 0
        self._clock = clock
        self._chance = chance
        self._faults = faults

    def send(self, not_before: float, call: Callable[[], object]) -> float:
        """A message; when it arrives."""
        self.messages += 1
        delay_s = self._chance.expovariate(1 / self._faults.delay_s) if self._faults.delay_s else 0.0
        arrives = max(self._clock.now, not_before) + delay_s
        self._clock.at(arrives, call)
        return arrives

    def call(self, not_before: float, call: Callable[[], object]) -> None:
        """A call: of one that is lost, either the request was or the answer."""
        if self._faults.losses and self._chance.random() < self._faults.losses:
            if self._chance.random() < 0.5:  # noqa: PLR2004 - as often this as that
                self.send(not_before, call)
            self._clock.after(_ASK_AGAIN_S, self.call, not_before, call)
        else:
            self.send(not_before, call)


class Host(Protocol):
    """Where it runs."""

    cut_until: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What the processes of a simulation share: its clock, chance and faults, the real coordinator, and who watches."""

    clock: Clock
    chance: random.Random
    faults: Faults
    coordinator: Coordinator
    network: Network
    watching: Invariants


class Process:
    """One attempt of one node."""

    def __init__(self, node: NodePlan, attempt: int, host: Host, children: Iterable[str], world: World) -> None:
        self.node = node
        self.attempt = attempt
        self.pid = next(_pids)
        self.on_end: Callable[[ProcessExit], None] = lambda _: None
        self.seen: dict[str, NodeRecord] = {}
        """What it knows of those that it follows."""
        self.lives = False
        self._host = host
        self._children = children
        self._world = world
        self._clock = world.clock
        self._chance = world.chance
        self._coordinator = world.coordinator
        self._watcher: Watcher | None = None
        self._heard_until = 0.0  # when what was sent so far has arrived: a stream keeps its order
        self._is_told = False
        deaf = world.faults.deaf
        self._deafness = world.chance.random() / deaf if deaf else 2.0  # below 1: deaf; below 1/2: very

    @property
    def has_heard_all(self) -> bool:
        """Nothing is on its way to it."""
        return not self._is_told and self._heard_until < self._clock.now

    def begin(self) -> None:
        """It exists, and attaches."""
        self.lives = True
        self._world.watching.process_began(self.node.name)
        self._call(self._attach)

    # -- what it is told ------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """It gets one of those that the steps of a stop send."""
        if number == signal.SIGKILL:
            self.end(None, number)
        elif number == signal.SIGTERM and self._deafness > 0.5:  # noqa: PLR2004 - half of the deaf ones
            self._clock.after(self._chance.uniform(*_END_S), self.end, None, number)
        elif number == INTERRUPT and self._deafness > 1:
            self._end_soon("stopped")

    def vanish(self) -> None:
        """It is gone, and nobody is told."""
        if self.lives:
            self.lives = False
            self._world.watching.process_ended(self.node.name)
            if self._watcher is not None:
                self._coordinator.detach(self._watcher)

    def end(self, code: int | None, by: int | None = None) -> None:
        """It exits, or is ended."""
        if self.lives:
            self.vanish()
            self.on_end(ProcessExit(code=code, signal=by))

    def fail(self) -> None:
        """Something goes wrong in it."""
        how = self._chance.randrange(3)
        if how == 0:
            self.end(None, 9)
        elif how == 1:
            self.end(3)
        else:
            self._finish(Outcome(kind="raised", code=1, exception="Simulated: fault"))

    # -- its life -------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """The coordinator hears that it is there."""
        if self._watcher is None:
            self._watcher = self._coordinator.attach(self.node.name, self.attempt, self._news)
            if not self.lives:
                self._coordinator.detach(self._watcher)

    def _news(self) -> None:
        """The coordinator has something to tell it."""
        if not self._is_told:
            self._is_told = True
            self._clock.after(0.0, self._tell)

    def _tell(self) -> None:
        self._is_told = False
        while self._watcher is not None and (event := self._watcher.take()) is not None:
            not_before = max(self._heard_until, self._host.cut_until)
            self._heard_until = self._world.network.send(not_before, lambda event=event: self._hear(event))  # type: ignore[misc]

    def _hear(self, event: object) -> None:
        if not self.lives:
            return
        if isinstance(event, Welcome):
            slow = self._chance.random() < self._world.faults.slow_starts
            needs_s = self._chance.uniform(*((3.0, self._world.faults.slow_start_s) if slow else _IMPORT_S))
            self._clock.after(needs_s, self._be_ready)
            for name in self.node.inputs:
                self._call(lambda name=name: self._coordinator.follow(self.node.name, name))  # type: ignore[misc]
        elif isinstance(event, NodeRecord):
            self.seen[event.name] = event
        elif self._deafness > 1 and (isinstance(event, Release) or self._has_work(event)):
            self._end_soon("stopped")

    def _has_work(self, event: object) -> bool:
        """A stop is for nodes with work of their own; others wait for the release."""
        return isinstance(event, Stop) and not self.node.serves_only

    def _be_ready(self) -> None:
        if self.lives:
            for name in (*self._children, self.node.name):
                self._call(lambda name=name: self._publish(name))  # type: ignore[misc]

    def _publish(self, name: str) -> None:
        self._coordinator.change(name, self.attempt, state=NodeState.READY, endpoint=f"{name}@{self.attempt}")

    def _end_soon(self, kind: str) -> None:
        self._clock.after(self._chance.uniform(*_END_S), self._finish, Outcome(kind=kind))

    def _finish(self, outcome: Outcome) -> None:
        """It tells how its code has ended, and exits when that has been taken."""
        if self.lives:
            self._call(lambda: self._report(outcome))

    def _report(self, outcome: Outcome) -> None:
        if self.lives:
            self._coordinator.report(self.node.name, self.attempt, outcome)
            self.end(outcome.code)

    def _call(self, call: Callable[[], object]) -> None:
        """It arrives though who made it may be gone by then."""
        self._world.network.call(self._host.cut_until, call)
