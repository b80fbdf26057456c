"""Who waits for nodes that do not become READY is told which, and what is known of them."""

from __future__ import annotations

import math

from kourou.runtime.launch.decisions.slow_starts import SlowStarts
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import NodeState
from kourou.runtime.plan.plan import NodePlan, Placement


class Clock:
    """A run's nodes, and a clock that a test sets."""

    def __init__(self, *nodes):
        self.now = 0.0
        self.told: list[str] = []
        self.nodes = {node.name: TrackedNode(plan=node, host="here", serves_only=False) for node in nodes}
        self.starts = SlowStarts(self.nodes, run_id="run-1", log_file=lambda name: f"logs/{name}")
        for node in nodes:
            self.starts.begin(node.name, self.now)

    def start(self, name, **changes):
        self.nodes[name].begin(self.now)
        for field, value in changes.items():
            setattr(self.nodes[name], field, value)

    def run_until(self, end):
        """Look whenever it is due until the clock shows ``end``."""
        while self.starts.due <= end:
            self.now = max(self.now, self.starts.due)
            self.told += [warning.text for warning in self.starts.look(self.now)]
        self.now = end


def process(name, **options):
    return NodePlan(name=name, kind="fake", process=ProcessSpec(name=name, argv=()), **options)


def test_a_node_is_named_after_ten_seconds_with_what_is_known_of_it():
    # Given one node that is not begun, one without a process, one that has not reported, one in its constructor
    run = Clock(*(process(f"a/{i}") for i in range(5)))
    run.start("a/1")
    run.start("a/2", host="there", pid=47)
    run.start("a/3", host="there", pid=48, attached=True)
    run.start("a/4", state=NodeState.READY)
    # When
    run.run_until(9.9)
    assert run.told == []
    run.run_until(10.0)
    # Then
    (told,) = run.told
    assert told == (
        "still waiting for 4 of 5 nodes to be ready: "
        "a/0 (PENDING for 10 s: others are started before it; on no host yet; log: logs/a/0); "
        "a/1 (STARTING for 10 s: its process is not there yet; on here; log: logs/a/1); "
        "a/2 (STARTING for 10 s: its process has not reported yet; pid 47 on there; "
        "log: logs/a/2); "
        "a/3 (STARTING for 10 s: it imports what it needs, or is being constructed; pid 48 on there; "
        "log: logs/a/3). Where one of them is: kourou debug run-1 a/2"
    )


def test_it_is_named_again_when_it_has_waited_twice_as_long():
    run = Clock(process("a/0"))
    run.start("a/0")
    run.run_until(100.0)
    assert [text.partition(" for ")[2].partition(" for ")[2].partition(":")[0] for text in run.told] == [
        "10 s",
        "20 s",
        "40 s",
        "80 s",
    ]


def test_many_take_one_line_in_ten_seconds_and_few_are_named():
    # Given nodes that are started one after the other
    run = Clock(*(process(f"a/{i}") for i in range(100)))
    for i in range(100):
        run.run_until(i / 10)
        run.starts.begin(f"a/{i}", run.now)
        run.start(f"a/{i}")
    # When, Then
    run.run_until(30.0)
    first, second = run.told
    assert first.startswith("still waiting for 1 of 100")
    assert second.startswith("still waiting for 100 of 100")
    assert second.count("STARTING") == 5
    assert "; and 95 more. Where" in second


def test_nothing_is_due_once_all_are_ready_or_the_program_stops():
    ready, stopped = Clock(process("a/0")), Clock(process("a/0"))
    ready.start("a/0", state=NodeState.READY)
    ready.run_until(10.0)
    stopped.starts.end()
    assert (ready.starts.due, stopped.starts.due) == (math.inf, math.inf)
    assert ready.told == stopped.told == []
    # And a restart counts anew
    ready.starts.begin("a/0", ready.now)
    ready.start("a/0")
    ready.run_until(20.0)
    assert len(ready.told) == 1


def test_a_function_in_a_class_s_place_that_runs_is_not_waited_for():
    # Given two that may do their whole work before they are READY, one of which has not even begun
    run = Clock(process("a/0", polls_while_starting=True), process("a/1", polls_while_starting=True))
    run.start("a/0", pid=1, attached=True)
    run.start("a/1", pid=1)
    # When, Then
    run.run_until(10.0)
    assert "1 of 2" in run.told[0]
    assert "a/1 (" in run.told[0]


def test_a_unit_is_not_named_beside_its_parts():
    unit = NodePlan(name="u/0", kind="fake", placement=Placement.UNIT)
    run = Clock(unit, process("u/0:0", parent="u/0"))
    run.run_until(10.0)
    assert "1 of 1 nodes" in run.told[0]


def test_threads_have_no_process_to_wait_for():
    run = Clock(NodePlan(name="a/0", kind="fake"))
    run.start("a/0")
    run.run_until(10.0)
    assert "a/0 (STARTING for 10 s: its code has not become ready; on here;" in run.told[0]
