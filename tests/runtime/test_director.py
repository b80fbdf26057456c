"""How the director classifies exits, its, policies and stop timeline, through a fake launcher."""

from __future__ import annotations

import functools
import json
import time

import pytest

from kourou.runtime.graph.policies import Restart
from kourou.runtime.model.records import NodeState, Outcome
from kourou.runtime.plan.plan import NodePlan, Placement
from kourou.runtime.stopping.state import StopState
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.runtime.waiting import long_waits
from polling import until
from runtime.fakes import WAIT_S, Stage

RAISED = Outcome(kind="raised", code=1, exception="ValueError: x", traceback="Traceback: x")


def node(name, **options):
    return NodePlan(name=name, kind="fake", **options)


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
        made.director.request_stop("the test is over", "test", at_once=True)
        assert made.ended()
        assert made.director.crash is None


VERDICTS: dict[str, tuple[dict, str, str]] = {
    "finished": ({"code": 0, "outcome": Outcome(kind="finished")}, "FINISHED", "finished"),
    "stopped": ({"code": 0, "outcome": Outcome(kind="stopped")}, "FINISHED", "finished"),
    "raised": ({"code": 1, "outcome": RAISED}, "FAILED", "raised ValueError: x"),
    "exited": ({"code": 3, "outcome": Outcome(kind="exited", code=3)}, "FAILED", "exited with code 3"),
    "exited-hard": ({"code": 3}, "FAILED", "exited with code 3"),
    "vanished": ({"code": 0}, "FAILED", "exited with code 0 before it had finished (os._exit?)"),
    "killed": ({"code": None, "signal": 9}, "FAILED", "was killed by SIGKILL"),
    "killed-after-its-end": (
        {"code": None, "signal": 11, "outcome": Outcome(kind="finished")},
        "FAILED",
        "was killed by SIGSEGV",
    ),
    "terminated": ({"code": None, "signal": 15}, "FAILED", "was killed by SIGTERM"),
    "realtime-signal": ({"code": None, "signal": 63}, "FAILED", "was killed by signal 63"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_each_exit_is_classified(case, stage):
    how, state, cause = VERDICTS[case]
    play = stage(node("a/0", on_failure="ignore"))
    play.start()
    play.director.on_started("a/0", 1, 4711)
    play.exit("a/0", **how)
    assert play.ended()
    record = play.record("a/0").exit
    assert (record.state, record.cause, record.pid, record.attempt) == (state, cause, 4711, 1)
    assert play.exits == [record]
    assert play.gave_back.is_set()


STOPPED: dict[str, tuple[dict, str, str]] = {
    "by-sigterm": ({"code": None, "signal": 15}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "by-sighup": ({"code": None, "signal": 1}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "with-its-code": ({"code": 143}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "after-its-end": (
        {"code": None, "signal": 15, "outcome": Outcome(kind="finished")},
        "KILLED",
        "had finished, but was ended by SIGTERM, since the program stopped",
    ),
    "by-itself": ({"code": None, "signal": 11}, "FAILED", "was killed by SIGSEGV"),
    "with-another-code": ({"code": 3}, "FAILED", "exited with code 3"),
}


@pytest.mark.parametrize("case", STOPPED)
def test_a_stop_s_own_sigterm_is_no_failure(case, stage):
    how, state, cause = STOPPED[case]
    play = stage(node("a/0"))
    play.start()
    play.director.request_stop("enough", "test")
    until(lambda: play.record("a/0").state is NodeState.STOPPING, WAIT_S)
    play.exit("a/0", **how)
    assert play.ended()
    record = play.record("a/0").exit
    assert (record.state, record.cause) == (state, cause)
    assert [failure.node for failure in play.director.failures] == (["a/0"] if state == "FAILED" else [])


def test_a_sigterm_to_all_processes_is_a_stop_though_the_nodes_died_of_it_first(stage, monkeypatch):
    # Given nodes that die of a SIGTERM which the launcher gets a moment later.
    monkeypatch.setattr("kourou.runtime.launch.director._STOP_FOLLOWS_S", WAIT_S)
    play = stage(node("a/0", on_failure=Restart(max_times=3)), node("b/0"))
    play.start()
    play.exit("a/0", None, signal=15)
    play.exit("b/0", None, signal=15)
    # When it asks for the stop.
    play.director.request_stop("interrupted", "launcher")
    # Then none of them has failed, and none is started again.
    assert play.ended()
    assert play.coordinator.stop_reason == "interrupted"
    assert play.director.failures == []
    assert {play.record(name).state for name in ("a/0", "b/0")} == {NodeState.KILLED}
    assert play.launcher.attempts == [("a/0", 1), ("b/0", 1)]


def test_nodes_that_are_not_ready_are_named_also_after_a_restart(stage, monkeypatch, caplog):
    # Given
    monkeypatch.setattr(long_waits, "PATIENCE_S", 0.05)
    play = stage(node("a/0", on_failure=Restart(max_times=1, backoff_s=0.0)))
    play.start(ready=False)
    # When, Then
    until(lambda: "waiting for 1 of 1 nodes to be ready: a/0 (STARTING" in caplog.text, WAIT_S)
    play.coordinator.change("a/0", 1, state=NodeState.READY)
    play.exit("a/0", 1)
    until(lambda: _attempted(play, 2), WAIT_S)
    caplog.clear()
    until(lambda: "a/0 (STARTING" in caplog.text, WAIT_S)
    # And who has ended is waited for no longer
    play.finish("a/0", attempt=2)
    assert play.ended()


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


def test_ignored_failures_stop_nothing(stage):
    play = stage(node("a/0", on_failure="ignore"), node("b/0"))
    play.start()
    play.exit("a/0", 1)
    until(lambda: play.record("a/0").gone, WAIT_S)
    assert play.coordinator.stop_reason is None
    play.finish("b/0")
    assert play.ended()
    assert play.director.failures == []


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


def test_restarts_wait_longer_each_time_and_are_forgotten_after_their_window(stage):
    play = stage(node("a/0", on_failure=Restart(max_times=1, window_s=0.2, backoff_s=0.1)))
    play.start()
    started = time.monotonic()
    play.exit("a/0", 1, attempt=1)
    until(lambda: ("a/0", 2) in play.launcher.attempts, WAIT_S)
    assert time.monotonic() - started >= 0.1
    until(lambda: time.monotonic() - started > 0.35, WAIT_S)  # past the window
    play.exit("a/0", 1, attempt=2)
    until(lambda: ("a/0", 3) in play.launcher.attempts, WAIT_S)
    assert play.director.failures == []
    play.finish("a/0", attempt=3)
    assert play.ended()


def test_a_clean_end_is_not_restarted_and_a_stale_exit_is_ignored(stage):
    play = stage(node("a/0", on_failure=Restart(backoff_s=0.0)), node("b/0"))
    play.start()
    play.exit("a/0", 1, attempt=1)
    until(lambda: ("a/0", 2) in play.launcher.attempts, WAIT_S)
    play.exit("a/0", 1, attempt=1)  # told twice
    play.finish("a/0", attempt=2)
    until(lambda: play.record("a/0").state is NodeState.FINISHED, WAIT_S)
    play.finish("b/0")
    assert play.ended()
    assert play.launcher.attempts.count(("a/0", 2)) == 1
    assert ("a/0", 3) not in play.launcher.attempts


def test_a_stop_gives_up_a_restart_that_was_due(stage):
    play = stage(node("a/0", on_failure=Restart(backoff_s=30.0)), node("b/0"))
    play.start()
    play.exit("a/0", 1)
    until(lambda: play.record("a/0").will_restart, WAIT_S)
    play.director.request_stop("enough", "test")
    until(lambda: not play.record("a/0").will_restart, WAIT_S)
    play.finish("b/0")
    assert play.ended()
    assert len(play.launcher.attempts) == 2


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
    play.director.request_stop("enough", "somebody")
    play.director.request_stop("again", "somebody else")
    play.finish("ask/0")
    assert play.ended()
    # Then each step reaches only those that are left, in its time.
    assert 0.45 <= time.monotonic() - started < 0.45 + 2
    assert sorted(play.asked("interrupt")) == ["interrupt/0", "kill/0", "terminate/0"]
    assert sorted(play.asked("terminate")) == ["kill/0", "terminate/0"]
    assert play.asked("kill") == ["kill/0"]
    assert play.record("kill/0").state is NodeState.KILLED
    assert "time" in play.record("kill/0").exit.cause
    assert {play.record(name).state for name in names[:3]} == {NodeState.FINISHED}
    assert play.director.failures == []
    events = [json.loads(line) for line in (play.folder.path / "events.jsonl").read_text().splitlines()]
    assert [(e["reason"], e["origin"]) for e in events if e["event"] == "stop"] == [("enough", "somebody")]


def test_a_node_that_is_still_starting_is_interrupted_at_once(stage):
    # Given a node in its constructor, and one that is ready.
    play = stage(node("late/0"), node("ready/0"), stop=StopTimeline(ask_s=60.0))
    play.start(ready=False)
    play.coordinator.change("ready/0", 1, state=NodeState.READY)
    play.launcher.on = {"interrupt": lambda name: play.exit(name, 0, outcome=Outcome(kind="stopped"))}
    # When the program is stopped.
    play.director.request_stop("enough", "test")
    play.finish("ready/0")
    # Then only the first is not given the time that nodes have to end by themselves.
    assert play.ended()
    assert play.asked("interrupt") == ["late/0"]


def test_a_function_that_may_do_all_of_its_node_s_work_while_it_starts_is_given_its_time(stage):
    play = stage(node("function/0", polls_while_starting=True), stop=StopTimeline(ask_s=60.0))
    play.start(ready=False)
    play.director.request_stop("enough", "test")
    play.finish("function/0")
    assert play.ended()
    assert play.asked("interrupt") == []


def test_at_once_kills_without_asking_even_during_a_stop(stage):
    play = stage(node("a/0"), stop=StopTimeline(ask_s=60.0))
    play.start()
    play.launcher.on = {"kill": lambda name: play.exit(name, None, signal=9)}
    play.director.request_stop("first", "test")
    play.director.request_stop("second", "test", at_once=True)
    assert play.ended()
    assert play.asked("interrupt") == play.asked("terminate") == []
    assert play.record("a/0").state is NodeState.KILLED


def test_a_node_that_survives_sigkill_does_not_hold_up_the_end(stage, monkeypatch):
    monkeypatch.setattr("kourou.runtime.stopping.steps._KILLED_WITHIN_S", 0.1)
    play = stage(node("a/0"), stop=StopTimeline(ask_s=0.0, interrupt_s=0.0, terminate_s=0.0))
    play.start()
    play.director.request_stop("enough", "test")
    assert play.ended()
    assert play.record("a/0").state is NodeState.KILLED


def test_nodes_that_only_serve_are_released_when_the_others_have_ended(stage):
    # Given a server and a worker, and how both are told of the stop.
    play = stage(node("server/0", serves_only=True), node("worker/0"))
    server = StopState(lambda reason: None)
    play.coordinator.add_stop_state(server)
    play.start()
    # When the program stops, then the server is told so, but serves on until the worker has ended.
    play.director.request_stop("enough", "test")
    assert server.event.wait(WAIT_S)
    assert not server.released.is_set()
    play.finish("worker/0")
    assert server.released.wait(WAIT_S)
    play.finish("server/0")
    assert play.ended()


def test_a_failure_during_the_stop_is_a_failure_still(stage):
    play = stage(node("a/0"), node("b/0"))
    play.start()
    play.director.request_stop("enough", "test")
    play.exit("a/0", 1, outcome=RAISED)
    play.finish("b/0")
    assert play.ended()
    assert [record.node for record in play.director.failures] == ["a/0"]


def test_an_exit_with_code_0_during_the_stop_is_fine_without_words(stage):
    play = stage(node("a/0"), node("b/0"))
    play.start()
    play.director.request_stop("enough", "test")
    until(lambda: play.record("a/0").state is NodeState.STOPPING, WAIT_S)
    play.exit("a/0", 0)
    play.finish("b/0")
    assert play.ended()
    assert play.record("a/0").state is NodeState.FINISHED


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
            play.director.request_stop("interrupted", "launcher")

    play.launcher.on["start"] = stop_at_third
    play.launcher.on["interrupt"] = play.finish
    # when
    play.director.start(play.launcher)
    assert play.ended()
    # then the others were never started, and count as ended
    assert [name for name, _ in play.launcher.attempts] == ["a/0", "a/1", "a/2"]
    assert {play.record(f"a/{i}").state for i in range(50)} == {NodeState.FINISHED}
    last = play.record("a/49")
    assert last.gone
    assert last.exit is not None
    assert last.exit.cause == "was not started, because the program stopped"


def _group(**options):
    parts = [node(f"a/0:{rank}", parent="a/0", **options) for rank in (0, 1)]
    return node("a/0", placement=Placement.UNIT), *parts


def test_the_part_of_a_unit_that_raised_first_is_its_failure_whichever_process_ends_first(stage):
    # Given a rank that has raised and whose process is about to end
    play = stage(*_group())
    play.start(ready=False)
    play.coordinator.report("a/0:1", 1, RAISED)
    # When another rank, which misses it, raises and ends before
    play.exit("a/0:0", 1, outcome=Outcome(kind="raised", code=1, exception="RuntimeError: connection closed"))
    play.exit("a/0:1", 1)
    # Then it is not taken for the cause
    assert play.ended()
    assert play.record("a/0").exit.cause == "raised ValueError: x (in a/0:1)"
    assert play.record("a/0:0").exit.cause == "raised RuntimeError: connection closed"


def test_a_part_that_was_killed_is_the_failure_of_a_unit_though_others_raised_because_of_it(stage):
    play = stage(*_group())
    play.start(ready=False)
    play.coordinator.report("a/0:1", 1, RAISED)
    play.exit("a/0:0", None, signal=9)
    play.exit("a/0:1", 1)
    assert play.ended()
    assert play.record("a/0").exit.cause == "was killed by SIGKILL (in a/0:0)"
