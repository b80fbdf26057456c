"""What holds of the director whatever happens, and in whatever order: random programs with random lives."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.launch.decisions.state_machine import AddAsked, Event
from kourou.runtime.model import instructions as do
from kourou.runtime.model.events import Attached, Due, RemoveAsked, Started
from kourou.runtime.model.records import Outcome
from kourou.runtime.plan.plan import LaunchPlan, Placement
from kourou.runtime.simulation.invariants import Invariants
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
    "add",
    "remove",
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
        self.invariants = Invariants(plan)
        self.running: dict[str, int] = {}  # processes, with their attempts
        self.over: list[Event] = []  # exits that were told

    def tell(self, event: Event) -> None:
        for instruction in self.play.tell(event):
            self.invariants.instructed(instruction, self.play.now)
            if isinstance(instruction, do.Launch):
                self.invariants.process_began(instruction.name)
                self.running[instruction.name] = instruction.attempt
        self.check()

    def wait(self, seconds: float) -> None:
        end = self.play.now + seconds
        while not self.play.machine.ended and self.play.machine.due <= end:
            self.play.now = max(self.play.now, self.play.machine.due)
            self.tell(Due())
        self.play.now = end

    def check(self) -> None:
        machine = self.play.machine
        self.invariants.check(ended=machine.ended, due=machine.due, now=self.play.now)
        # An exit that is not judged yet has a timer.
        alive = [self.plans[name] for name in self.invariants.alive]
        held = [each for each in alive if each.placement is Placement.OWN and each.name not in self.running]
        assert not held or machine.due < math.inf

    def exit(self, name: str, code: int = 0, signal: int | None = None) -> None:
        self.invariants.process_ended(name)
        self.over.append(exited(name, code, signal=signal, attempt=self.running.pop(name)))
        self.tell(self.over[-1])

    def act(self, action: str, who: int, much: int) -> None:
        names = list(self.running)
        if action == "wait":
            self.wait(much / 4)
        elif action.startswith("stop"):
            self.tell(stop(at_once=action == "stop at once"))
        elif action == "add":
            self.add(who, much)
        elif action == "remove":
            self.tell(RemoveAsked(names=(list(self.plans)[who % len(self.plans)],), origin="somebody"))
        elif action == "tell of exits again":
            for event in self.over:
                self.tell(event)
        elif action == "sigterm to all":
            for name in names:
                self.exit(name, signal=15)
        elif names:
            self.act_of(names[who % len(names)], action, much)

    def add(self, who: int, much: int) -> None:
        name = f"n{len(self.plans)}"
        new = [node(name, on_failure=("fail", "ignore", AGAIN)[who % 3])]
        if much % 2:
            inside = Placement.IN_PARENT if much % 4 == 1 else Placement.OWN
            own = Placement.OWN if inside is Placement.IN_PARENT else Placement.UNIT
            parts = [node(f"{name}:{i}", parent=name, placement=inside, on_failure=AGAIN) for i in range(2)]
            new = [node(name, placement=own, on_failure="ignore"), *parts]
        self.plans |= {each.name: each for each in new}
        self.invariants.add(new)
        self.tell(AddAsked(nodes=tuple(new), origin="somebody"))

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


@settings(max_examples=examples(200))
@given(plan=_plans(), history=HISTORIES, ending=st.sampled_from(["by itself", "stop", "stop, and no process dies"]))
def test_whatever_happens(plan, history, ending):
    world = World(plan)
    world.wait(0.0)
    for action, who, much in history:
        if world.play.machine.ended:
            break
        world.act(action, who, much)
    _let_end(world, ending)
    assert world.play.machine.ended


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
