"""Who waits for nodes that do not become READY is told which, and what is known of them."""

from __future__ import annotations

import logging
import math

import pytest

from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.launch.slow_starts import SlowStarts
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.plan.plan import LaunchPlan, LaunchType, NodePlan, Placement, ProcessSpec


class Clock:
    """A run's nodes, and a clock that a test sets."""

    def __init__(self, folder, *nodes, launch_type=LaunchType.LOCAL_MULTI_PROCESSING):
        self.now = 0.0
        self.folder = RunFolder("run-1", folder)
        self.coordinator = Coordinator(
            [NodeRecord(name=node.name) for node in nodes], on_change=lambda _: None, on_stop_request=lambda *_: None
        )
        plan = LaunchPlan(program="fake", launch_type=launch_type, nodes=nodes)
        self.starts = SlowStarts(plan, self.coordinator, self.folder, lambda: self.now)
        for node in nodes:
            self.starts.begin(node.name)

    def change(self, name, state=NodeState.STARTING, **changes):
        self.coordinator.change(name, state=state, **changes)

    def run_until(self, end):
        """Look whenever it is due until the clock shows ``end``."""
        while self.starts.due <= end:
            self.now = max(self.now, self.starts.due)
            self.starts.look()
        self.now = end


def process(name, **options):
    return NodePlan(name=name, kind="fake", process=ProcessSpec(name=name, argv=()), **options)


@pytest.fixture
def clock(tmp_path):
    clocks: list[Clock] = []

    def make(*nodes, **options):
        clocks.append(Clock(tmp_path / str(len(clocks)), *nodes, **options))
        return clocks[-1]

    yield make
    for made in clocks:
        made.folder.close()


def test_a_node_is_named_after_ten_seconds_with_what_is_known_of_it(clock, caplog):
    # Given one node that is not begun, one without a process, one that has not reported, one in its constructor
    run = clock(*(process(f"a/{i}") for i in range(5)))
    run.change("a/1", host="here", attempt=1)
    run.change("a/2", host="there", attempt=1, pid=47)
    run.change("a/3", host="there", attempt=1, pid=48)
    run.coordinator.attach("a/3", 1)
    run.change("a/4", NodeState.READY, attempt=1)
    # When
    run.run_until(9.9)
    assert caplog.records == []
    run.run_until(10.0)
    # Then
    (told,) = caplog.messages
    assert told == (
        "still waiting for 4 of 5 nodes to be ready: "
        f"a/0 (PENDING for 10 s: others are started before it; on no host yet; log: {run.folder.log_file('a/0')}); "
        f"a/1 (STARTING for 10 s: its process is not there yet; on here; log: {run.folder.log_file('a/1')}); "
        "a/2 (STARTING for 10 s: its process has not reported yet; pid 47 on there; "
        f"log: {run.folder.log_file('a/2')}); "
        "a/3 (STARTING for 10 s: it imports what it needs, or is being constructed; pid 48 on there; "
        f"log: {run.folder.log_file('a/3')}). Where one of them is: kourou debug run-1 a/2"
    )
    assert caplog.records[0].levelno == logging.WARNING


def test_it_is_named_again_when_it_has_waited_twice_as_long(clock, caplog):
    run = clock(process("a/0"))
    run.change("a/0", attempt=1)
    run.run_until(100.0)
    assert [text.partition(" for ")[2].partition(" for ")[2].partition(":")[0] for text in caplog.messages] == [
        "10 s",
        "20 s",
        "40 s",
        "80 s",
    ]


def test_many_take_one_line_in_ten_seconds_and_few_are_named(clock, caplog):
    # Given nodes that are started one after the other
    run = clock(*(process(f"a/{i}") for i in range(100)))
    for i in range(100):
        run.run_until(i / 10)
        run.starts.begin(f"a/{i}")
        run.change(f"a/{i}", attempt=1)
    # When, Then
    run.run_until(30.0)
    first, second = caplog.messages
    assert first.startswith("still waiting for 1 of 100")
    assert second.startswith("still waiting for 100 of 100")
    assert second.count("STARTING") == 5
    assert "; and 95 more. Where" in second


def test_nothing_is_due_once_all_are_ready_or_the_program_stops(clock, caplog):
    ready, stopped = clock(process("a/0")), clock(process("a/0"))
    ready.change("a/0", NodeState.READY)
    ready.run_until(10.0)
    stopped.starts.end()
    assert (ready.starts.due, stopped.starts.due) == (math.inf, math.inf)
    assert caplog.records == []
    # And a restart counts anew
    ready.starts.begin("a/0")
    ready.change("a/0")
    ready.run_until(20.0)
    assert len(caplog.records) == 1


def test_a_function_in_a_class_s_place_that_runs_is_not_waited_for(clock, caplog):
    # Given two that may do their whole work before they are READY, one of which has not even begun
    run = clock(process("a/0", polls_while_starting=True), process("a/1", polls_while_starting=True))
    for name in ("a/0", "a/1"):
        run.change(name, attempt=1, pid=1)
    run.coordinator.attach("a/0", 1)
    # When, Then
    run.run_until(10.0)
    assert "1 of 2" in caplog.text
    assert "a/1 (" in caplog.text


def test_a_unit_is_not_named_beside_its_parts(clock, caplog):
    unit = NodePlan(name="u/0", kind="fake", placement=Placement.UNIT)
    run = clock(unit, process("u/0:0", parent="u/0"))
    run.run_until(10.0)
    assert "1 of 1 nodes" in caplog.text


def test_threads_have_no_process_to_wait_for(clock, caplog):
    run = clock(NodePlan(name="a/0", kind="fake"), launch_type=LaunchType.LOCAL_MULTI_THREADING)
    run.change("a/0", attempt=1, host="here")
    run.run_until(10.0)
    assert "a/0 (STARTING for 10 s: its code has not become ready; on here;" in caplog.text
