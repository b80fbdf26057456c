"""What holds of the director whatever happens, and in whatever order: random programs with random lives."""

from __future__ import annotations

import collections
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from kourou.runtime.graph.policies import Restart
from kourou.runtime.launch.events import Attached, Due, Event, Started
from kourou.runtime.model import instructions as do
from kourou.runtime.model.instructions import Instruction
from kourou.runtime.model.records import NodeState, Outcome
from kourou.runtime.plan.plan import LaunchPlan, Placement
from runtime.playing import RAISED, TIMELINE, Play, exited, node, plan_of, ready, reported, stop

AGAIN = Restart(max_times=2, window_s=5.0, backoff_s=0.5)
POLICIES = st.sampled_from(["fail", "ignore", AGAIN, AGAIN, Restart(max_times=1, window_s=20.0, backoff_s=0.0)])
LONGEST_STOP_S = TIMELINE.total_s + 10.0  # and the time that SIGKILL is given


@st.composite
def _tree(draw, name, depth):
    """A node alone, a colocation of threads, or one of processes, some of which are colocations themselves."""
    kind = draw(st.sampled_from(["alone", "threads", "unit"] if depth else ["alone", "threads"]))
    parent = name.rpartition(":")[0] or None
    options = {"on_failure": draw(POLICIES), "parent": parent}
    if kind == "unit":
        parts = [draw(_tree(f"{name}:{i}", depth - 1)) for i in range(draw(st.integers(1, 3)))]
        return [node(name, placement=Placement.UNIT, **options), *(each for part in parts for each in part)]
    threads = range(draw(st.integers(1, 2)) if kind == "threads" else 0)
    inside = {"parent": name, "placement": Placement.IN_PARENT}
    serves_only = draw(st.booleans())
    return [
        node(name, serves_only=serves_only, **options),
        *(node(f"{name}:{i}", on_failure=draw(POLICIES), **inside) for i in threads),
    ]


@st.composite
def _plans(draw):
    trees = [draw(_tree(f"n{i}", 2)) for i in range(draw(st.integers(1, 4)))]
    return plan_of(*(each for tree in trees for each in tree))


ACTIONS = [
    "wait",
    "wait",
    "ready",
    "raise",
    "finish",
    "exit",
    "exit",
    "sigkill",
    "sigterm",
    "sigterm to all",
    "tell of exits again",
    "a thread ends",
    "stop",
    "stop at once",
]
ACTS = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11), st.integers(0, 40))
HISTORIES = st.lists(ACTS, min_size=4, max_size=40)


class World:
    """Processes that do as a history says, a state machine that directs them, and what must hold of both."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.play = Play(plan)
        self.plans = {each.name: each for each in plan.nodes}
        self.running: dict[str, int] = {}  # processes, with their attempts
        self.over: list[Event] = []  # exits that were told
        self.begun: dict[str, int] = {}
        self.begun_at: dict[str, list[float]] = collections.defaultdict(list)
        self.ends: collections.Counter[tuple[str, int]] = collections.Counter()
        self.alive: set[str] = set()
        self.to_be_killed: set[str] = set()
        self.stopped_at: float | None = None

    def tell(self, event: Event) -> None:
        for instruction in self.play.tell(event):
            self.carry_out(instruction)
        self.check()

    def wait(self, seconds: float) -> None:
        end = self.play.now + seconds
        while not self.play.machine.ended and self.play.machine.due <= end:
            self.play.now = max(self.play.now, self.play.machine.due)
            self.tell(Due())
        self.play.now = end

    def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case do.Begin(name=name, attempt=attempt):
                # A node's attempts follow each other, and its unit lives.
                assert name not in self.alive
                assert attempt == self.begun.get(name, 0) + 1
                assert self.stopped_at is None
                parent = self.plans[name].parent
                assert parent is None or parent in self.alive
                self.alive.add(name)
                self.begun[name] = attempt
                self.begun_at[name].append(self.play.now)
            case do.Launch(name=name, attempt=attempt):
                assert name not in self.running  # never twice
                assert (name in self.alive, attempt) == (True, self.begun[name])
                self.running[name] = attempt
            case do.End():
                self.end(instruction)
            case do.Kill(name=name):
                if name in self.running:
                    self.to_be_killed.add(name)
            case do.Stop():
                self.stopped_at = self.play.now

    def end(self, end: do.End) -> None:
        record, plan = end.record, self.plans[end.record.node]
        self.ends[record.node, record.attempt] += 1
        self.alive.remove(record.node)
        # A unit ends after its parts, and a process's threads before it.
        assert not [name for name in self.alive if self.plans[name].parent == record.node]
        # A process has ended, or has been given up.
        given_up = self.stopped_at is not None and self.play.now >= self.stopped_at + 10.0
        assert record.node not in self.running or given_up
        # When a part has failed for good, what else its unit runs is killed.
        unit = plan.parent and self.plans[plan.parent]
        bad = record.state is NodeState.FAILED and not end.will_restart and plan.on_failure != "ignore"
        matters = plan.placement is Placement.OWN and self.stopped_at is None
        if unit and unit.placement is Placement.UNIT and bad and matters:
            assert {name for name in self.running if name.startswith(f"{unit.name}:")} <= self.to_be_killed

    def check(self) -> None:
        machine = self.play.machine
        assert all(count == 1 for count in self.ends.values())  # every exit is judged once
        if not machine.ended:
            assert self.running or machine.due < math.inf  # nothing waits without a timer
        # An exit that is not judged yet has a timer as well.
        held = [name for name in self.alive if self.plans[name].placement is Placement.OWN and name not in self.running]
        assert not held or machine.due < math.inf

    def exit(self, name: str, code: int = 0, signal: int | None = None) -> None:
        self.to_be_killed.discard(name)
        self.over.append(exited(name, code, signal=signal, attempt=self.running.pop(name)))
        self.tell(self.over[-1])

    def act(self, action: str, who: int, much: int) -> None:
        names = list(self.running)
        if action == "wait":
            self.wait(much / 4)
        elif action.startswith("stop"):
            self.tell(stop(at_once=action == "stop at once"))
        elif action == "tell of exits again":
            for event in self.over:
                self.tell(event)
        elif action == "sigterm to all":
            for name in names:
                self.exit(name, signal=15)
        elif names:
            self.act_of(names[who % len(names)], action, much)

    def act_of(self, name: str, action: str, much: int) -> None:
        attempt = self.running[name]
        if action == "ready":
            self.tell(Started(name=name, attempt=attempt, pid=1))
            self.tell(Attached(name=name, attempt=attempt))
            self.tell(ready(name, attempt))
        elif action == "raise":
            self.tell(reported(name, RAISED, attempt))
        elif action == "finish":
            self.tell(reported(name, Outcome(kind="finished"), attempt))
            self.exit(name)
        elif action == "a thread ends":
            inside = [each.name for each in self.plans.values() if each.parent == name]
            if inside:
                outcome = (Outcome(kind="finished"), RAISED, Outcome(kind="left", code=1))[much % 3]
                self.tell(reported(inside[much % len(inside)], outcome, attempt))
        elif action == "exit":
            self.exit(name, much % 3)
        else:
            self.exit(name, signal=9 if action == "sigkill" else 15)


def _within_budget(policy: Restart, times: list[float]) -> bool:
    return all(
        sum(first <= time < first + policy.window_s for time in times) <= policy.max_times + 1
        for first in (times if policy.window_s else [])
    )


@settings(max_examples=200, deadline=None)
@given(plan=_plans(), history=HISTORIES, ending=st.sampled_from(["by itself", "stop", "stop, and no process dies"]))
def test_whatever_happens(plan, history, ending):
    world = World(plan)
    world.wait(0.0)
    for action, who, much in history:
        if world.play.machine.ended:
            break
        world.act(action, who, much)
    _let_end(world, ending)
    # every attempt has had one end
    assert world.play.machine.ended
    assert world.alive == set()
    assert set(world.ends) >= {(name, attempt) for name, last in world.begun.items() for attempt in range(1, last + 1)}
    for each in plan.nodes:
        if each.parent is None and isinstance(each.on_failure, Restart):
            assert _within_budget(each.on_failure, world.begun_at[each.name])
        elif each.parent is None:
            assert len(world.begun_at[each.name]) <= 1


def _let_end(world: World, ending: str) -> None:
    """The rest of the history: processes end, or are ended."""
    if ending == "by itself":
        for _ in range(1000):
            for name in list(world.running):
                world.act_of(name, "finish", 0)
            if world.play.machine.ended:
                return
            world.wait(1.0)
    elif not world.play.machine.ended:
        world.tell(stop())
        if ending == "stop":
            for name in list(world.running):
                world.act_of(name, "sigterm", 0)
        world.wait(LONGEST_STOP_S)
