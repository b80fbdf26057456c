"""The director's thread: what it is told reaches the state machine, and what that says is done, by a fake launcher.

What follows from what is in test_state_machine.
"""

from __future__ import annotations

import functools
import json
import time

import pytest

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model.events import StopAsked
from kourou.runtime.model.records import NodeState, Outcome
from kourou.runtime.stopping.state import StopState
from kourou.runtime.stopping.timeline import StopTimeline
from polling import WAIT_S, until
from runtime.fakes import Stage
from runtime.playing import RAISED, node


def _attempted(play, attempt):
    return ("a/0", attempt) in play.launcher.attempts


def _kill(play, name):
    play.exit(name, None, signal=9, attempt=play.record(name).attempt)


@pytest.fixture
def stage(tmp_path):
    """Makes a stage; ends what a failed test left running."""
    stages: list[Stage] = []

    def make(*nodes, **options):
        stages.append(Stage(tmp_path / str(len(stages)), *nodes, **options))
        return stages[-1]

    yield make
    for made in stages:
        made.launcher.on["kill"] = functools.partial(_kill, made)
        made.director.tell(StopAsked(reason="the test is over", origin="test", at_once=True))
        assert made.ended()
        assert made.director.crash is None


def test_a_program_ends_when_its_last_node_has(stage):
    play = stage(node("a/0"), node("a/1"))
    play.start()
    play.finish("a/0")
    until(lambda: play.record("a/0").state is NodeState.FINISHED, WAIT_S)
    assert not play.director.ended.is_set()
    play.finish("a/1")
    assert play.ended()
    assert play.director.failures == []
    assert play.coordinator.stop_reason is None


def test_a_failure_stops_the_others_and_is_kept(stage):
    play = stage(node("a/0"), node("b/0"))
    play.start()
    play.exit("a/0", 1, outcome=RAISED)
    until(lambda: play.coordinator.stop_reason is not None, WAIT_S)
    assert play.coordinator.stop_reason == "a/0 raised ValueError: x"
    until(lambda: play.record("b/0").state is NodeState.STOPPING, WAIT_S)
    play.finish("b/0")
    assert play.ended()
    assert [record.node for record in play.director.failures] == ["a/0"]
    assert play.director.failures[0].last_lines == ("last words",)
    assert play.director.failures[0].traceback == "Traceback: x"


def test_a_restart_is_a_new_attempt_of_the_same_name(stage):
    play = stage(node("a/0", on_failure=Restart(max_times=2, backoff_s=0.0)))
    play.start()
    # When it fails as often as it may.
    for attempt in (1, 2):
        play.exit("a/0", None, signal=9, attempt=attempt)
        until(functools.partial(_attempted, play, attempt + 1), WAIT_S)
        assert play.record("a/0").state is NodeState.STARTING
        assert play.record("a/0").attempt == attempt + 1
    # And once more.
    play.exit("a/0", None, signal=9, attempt=3)
    # Then the program fails, and each attempt was told of.
    assert play.ended()
    assert [record.attempt for record in play.exits] == [1, 2, 3]
    assert [(record.node, record.attempt) for record in play.director.failures] == [("a/0", 3)]
    between = [record for record in play.changes if record.state is NodeState.FAILED and record.attempt < 3]
    assert between
    assert not any(record.gone for record in between)  # its callers wait for the next attempt


def test_the_timeline_insists_step_by_step(stage):
    # Given nodes that end when they are asked, interrupted, terminated and killed.
    names = ["ask/0", "interrupt/0", "terminate/0", "kill/0"]
    timeline = StopTimeline(ask_s=0.15, interrupt_s=0.15, terminate_s=0.15)
    play = stage(*(node(name) for name in names), stop=timeline)
    play.start()
    play.launcher.on = {
        "interrupt": lambda name: (
            play.exit(name, 0, outcome=Outcome(kind="stopped")) if name == "interrupt/0" else None
        ),
        "terminate": lambda name: (
            play.exit(name, 0, outcome=Outcome(kind="stopped")) if name == "terminate/0" else None
        ),
        "kill": lambda name: play.exit(name, None, signal=9),
    }
    # When the program is stopped.
    started = time.monotonic()
    play.director.tell(StopAsked(reason="enough", origin="somebody"))
    play.director.tell(StopAsked(reason="again", origin="somebody else"))
    play.finish("ask/0")
    assert play.ended()
    # Then each step reaches only those that are left, in its time.
    assert time.monotonic() - started >= 0.45
    assert sorted(play.asked("interrupt")) == ["interrupt/0", "kill/0", "terminate/0"]
    assert sorted(play.asked("terminate")) == ["kill/0", "terminate/0"]
    assert play.asked("kill") == ["kill/0"]
    killed = play.record("kill/0")
    assert killed.state is NodeState.KILLED
    assert killed.exit is not None
    assert killed.exit.cause == "did not end in the time that the stop gave it, and was killed"
    assert {play.record(name).state for name in names[:3]} == {NodeState.FINISHED}
    assert play.director.failures == []
    events = [json.loads(line) for line in (play.folder.path / "events.jsonl").read_text().splitlines()]
    assert [(e["reason"], e["origin"]) for e in events if e["event"] == "stop"] == [("enough", "somebody")]


def test_at_once_kills_without_asking_even_during_a_stop(stage):
    play = stage(node("a/0"), stop=StopTimeline(ask_s=60.0))
    play.start()
    play.launcher.on = {"kill": lambda name: play.exit(name, None, signal=9)}
    play.director.tell(StopAsked(reason="first", origin="test"))
    play.director.tell(StopAsked(reason="second", origin="test", at_once=True))
    assert play.ended()
    assert play.asked("interrupt") == play.asked("terminate") == []
    assert play.record("a/0").state is NodeState.KILLED


def test_nodes_that_only_serve_are_released_when_the_others_have_ended(stage):
    # Given a server and a worker, and how both are told of the stop.
    play = stage(node("server/0", serves_only=True), node("worker/0"))
    server = StopState(lambda reason: None)
    play.coordinator.add_stop_state(server)
    play.start()
    # When the program stops, then the server is told so, but serves on until the worker has ended.
    play.director.tell(StopAsked(reason="enough", origin="test"))
    assert server.event.wait(WAIT_S)
    assert not server.released.is_set()
    play.finish("worker/0")
    assert server.released.wait(WAIT_S)
    play.finish("server/0")
    assert play.ended()


def test_lines_reach_the_log_and_the_terminal(stage):
    play = stage(node("a b/0"))
    play.start()
    play.director.on_line("a b/0", "hello", "stdout")
    play.finish("a b/0")
    assert play.ended()
    assert play.folder.log_file("a b/0").read_text() == "hello\n"
    assert play.terminal.getvalue() == "[a b/0] hello\n"


def test_a_stop_while_nodes_are_started_starts_no_more_of_them(stage):
    # given many nodes, the third of which brings a Ctrl-C with it
    play = stage(*[node(f"a/{i}") for i in range(50)])

    def stop_at_third(name):
        if name == "a/2":
            play.director.tell(StopAsked(reason="interrupted", origin="launcher"))

    play.launcher.on["start"] = stop_at_third
    # when
    play.director.start(play.launcher)
    until(lambda: play.coordinator.stop_reason is not None, WAIT_S)
    for name, _ in play.launcher.attempts:
        play.finish(name)
    assert play.ended()
    # then the others were never started, and count as ended
    assert [name for name, _ in play.launcher.attempts] == ["a/0", "a/1", "a/2"]
    assert {play.record(f"a/{i}").state for i in range(50)} == {NodeState.FINISHED}
    last = play.record("a/49")
    assert last.gone
    assert last.exit is not None
    assert last.exit.cause == "was not started, because the program stopped"


def test_a_fault_of_the_director_itself_ends_the_run_and_is_kept(tmp_path):
    # given a launcher that breaks
    play = Stage(tmp_path, node("a/0"))
    fault = OSError("broken")

    def break_down(name):
        raise fault

    play.launcher.on["start"] = break_down
    # when
    play.director.start(play.launcher)
    # then nobody waits for ever
    assert play.ended()
    assert play.director.crash is fault
    assert play.gave_back.is_set()
