"""Nodes of several nodes, as threads of one process and as processes of one unit."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kourou as lp
from kourou import courier
from kourou.errors import GraphError, NodeExited, NodeRestarted, PlanError, ProgramFailed
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH_TYPES = ("local_mt", "local_mp")
KINDS = (lp.MultiThreadingColocation, lp.MultiProcessingColocation)
# What listens to nothing is interrupted soon, and then has all the time that a loaded machine takes.
FAST_STOP = lp.StopTimeline(ask_s=0.5, interrupt_s=WAIT_S, terminate_s=1)
IMPATIENT = lp.StopTimeline(ask_s=0.5, interrupt_s=1, terminate_s=1)

both = pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
each_kind = pytest.mark.parametrize("kind", KINDS)


class Server:
    def __init__(self, other: Any = None) -> None:
        self._other = other

    def where(self) -> tuple[str, int]:
        return lp.get_context().name, os.getpid()

    def other(self) -> tuple[str, int]:
        answer: tuple[str, int] = self._other.where()
        return answer

    def attempt(self) -> int:
        return lp.get_context().attempt


def call(expected: list[str], servers: list[Any], *, same_process: bool) -> None:
    answers = [server.where() for server in servers]
    assert [name for name, _ in answers] == expected
    assert [name for name, _ in (servers[0].other(), servers[1].other())] == [expected[1], expected[0]]
    assert (len({pid for _, pid in answers}) == 1) == same_process
    lp.stop()


def wait_for_stop() -> None:
    assert lp.wait_for_stop(WAIT_S)


def spin() -> None:
    while True:
        time.sleep(0.01)


def stop() -> None:
    lp.stop()


def finish() -> None:
    pass


def fail(text: str = "boom") -> None:
    raise ValueError(text)


def fail_until(attempt: int) -> None:
    if lp.get_context().attempt < attempt:
        raise ValueError(f"attempt {lp.get_context().attempt}")


def run(program: lp.Program, launch_type: str, stop_timeline: lp.StopTimeline = FAST_STOP, **options: Any) -> lp.Run:
    """Run a program to its end."""
    started = lp.launch(program, launch_type, stop_timeline=stop_timeline, **options)
    started.wait(raise_error=False)
    return started


def of(*nodes: lp.Node, label: str = "co", **group: Any) -> lp.Program:
    program = lp.Program("colocation")
    with program.group(label, **group):
        for node in nodes:
            program.add_node(node)
    return program


# -- names, handles, places -------------------------------------------------------------------------------------------


@both
@each_kind
def test_children_have_names_and_are_called_by_others_and_each_other(kind: type, launch_type: str) -> None:
    # Given two children that know each other, and a caller outside.
    first = lp.CourierNode(Server)
    second = lp.CourierNode(Server, first.create_handle())
    first.configure(second.create_handle())
    program = of(kind([first, second]))
    same = launch_type == "local_mt" or kind is lp.MultiThreadingColocation
    handles = [first.create_handle(), second.create_handle()]
    program.add_node(lp.PyNode(call, ["co/0:0", "co/0:1"], handles, same_process=same), label="caller")
    # When it runs, then every assertion in the caller holds, and all nodes have ended well.
    ended = run(program, launch_type)
    assert ended.failures == ()
    assert {name: str(record.state) for name, record in ended.nodes.items()} == dict.fromkeys(
        ["co/0", "co/0:0", "co/0:1", "caller/0"], "FINISHED"
    )


@both
def test_children_are_called_from_the_launcher(launch_type: str) -> None:
    child = lp.CourierNode(Server)
    with lp.launch(of(lp.MultiThreadingColocation([child])), launch_type) as started:
        client = child.create_handle().dereference()
        assert client.where()[0] == "co/0:0"
        courier.close(client)
        assert str(started.nodes["co/0:0"].state) == "READY"
        assert started.nodes["co/0:0"].pid == started.nodes["co/0"].pid


@both
def test_colocations_nest(launch_type: str) -> None:
    # Given threads of threads of processes.
    inner = lp.MultiThreadingColocation([lp.PyNode(wait_for_stop), lp.PyNode(stop)])
    outer = lp.MultiThreadingColocation([inner, lp.PyNode(wait_for_stop)])
    program = of(lp.MultiProcessingColocation([outer, lp.MultiProcessingColocation([lp.PyNode(wait_for_stop)])]))
    ended = run(program, launch_type)
    assert ended.failures == ()
    names = ["co/0", "co/0:0", "co/0:0:0", "co/0:0:0:0", "co/0:0:0:1", "co/0:0:1", "co/0:1", "co/0:1:0"]
    assert sorted(ended.nodes) == names
    assert {str(record.state) for record in ended.nodes.values()} == {"FINISHED"}


def test_the_plan_shows_children_and_their_edges() -> None:
    server = lp.CourierNode(Server)
    client = lp.PyNode(print, server.create_handle())
    plan = lp.compile_program(of(lp.MultiThreadingColocation([server, client])), "local_mp")
    rows = [(node.name, str(node.placement), node.parent, node.inputs, node.process is None) for node in plan.nodes]
    assert rows == [
        ("co/0", "own", None, (), False),
        ("co/0:0", "in_parent", "co/0", (), True),
        ("co/0:1", "in_parent", "co/0", ("co/0:0",), True),
    ]


def test_the_context_of_a_child_has_the_label_and_index_of_its_colocation() -> None:
    seen: list[tuple[str, str, int]] = []

    def look() -> None:
        context = lp.get_context()
        seen.append((context.name, context.label, context.index))

    run(of(lp.PyNode(finish), lp.MultiThreadingColocation([lp.PyNode(look)])), "local_mt")
    assert seen == [("co/1:0", "co", 1)]


# -- mistakes ---------------------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("nodes", [[], [print], [lp.MultiThreadingColocation], None, lp.PyNode(finish)])
def test_a_colocation_of_no_nodes_is_an_error(kind: Any, nodes: Iterable[Any]) -> None:
    with pytest.raises(GraphError, match="Colocation"):
        kind(nodes)


def test_a_node_has_one_place() -> None:
    node = lp.PyNode(finish)
    program = of(lp.MultiThreadingColocation([node]))
    with pytest.raises(GraphError, match="co/0:0"):
        lp.MultiThreadingColocation([node])
    with pytest.raises(GraphError, match="co/0:0"):
        program.add_node(node, label="again")
    twice = lp.PyNode(finish)
    with pytest.raises(GraphError, match="twice"):
        program.add_node(lp.MultiThreadingColocation([twice, twice]), label="again")
    assert "again" not in program.groups


def test_threads_cannot_hold_processes() -> None:
    processes = lp.MultiProcessingColocation([lp.PyNode(finish)])
    with pytest.raises(GraphError, match="the other way round"):
        lp.MultiThreadingColocation([processes])


@pytest.mark.parametrize("retries", [-1, 0.5, "two"])
def test_retries_are_a_number(retries: Any) -> None:
    with pytest.raises(GraphError, match="num_retries_on_failure"):
        lp.MultiProcessingColocation([lp.PyNode(finish)], num_retries_on_failure=retries)


@each_kind
def test_a_handle_of_a_node_that_is_in_no_program_names_the_child(kind: Any) -> None:
    stranger = lp.CourierNode(Server)
    with pytest.raises(PlanError, match=r"co/0:1 args\[0\] is a handle of .* not in program"):
        lp.compile_program(of(kind([lp.PyNode(finish), lp.PyNode(print, stranger.create_handle())])), "local_mt")


@each_kind
def test_what_cannot_be_pickled_is_named_by_child_and_path(kind: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(PlanError, match=r"co/0:1 args\[0\]\['lock'\] cannot be pickled"):
        lp.compile_program(of(kind([lp.PyNode(finish), lp.PyNode(print, {"lock": lock})])), "local_mp")


# -- ends -------------------------------------------------------------------------------------------------------------


@both
@each_kind
def test_the_node_fails_with_the_error_of_its_child(kind: Any, launch_type: str) -> None:
    with pytest.raises(ProgramFailed, match=r"co/0 raised ValueError: boom \(in co/0:1\)") as caught:
        lp.launch(of(kind([lp.PyNode(wait_for_stop), lp.PyNode(fail)])), launch_type, stop_timeline=FAST_STOP).wait()
    assert [record.node for record in caught.value.records] == ["co/0"]
    assert "in fail" in caught.value.records[0].traceback


@both
def test_the_error_of_a_nested_child_names_that_child(launch_type: str) -> None:
    inner = lp.MultiThreadingColocation([lp.PyNode(fail)])
    ended = run(of(lp.MultiThreadingColocation([inner, lp.PyNode(wait_for_stop)])), launch_type)
    assert [record.cause for record in ended.failures] == ["raised ValueError: boom (in co/0:0:0)"]
    causes = {name: record.exit.cause for name, record in ended.nodes.items() if record.exit}
    assert causes["co/0:0:0"] == "raised ValueError: boom"
    assert causes["co/0:1"] == "finished"


@both
def test_a_child_that_exits_fails_the_node(launch_type: str) -> None:
    ended = run(of(lp.MultiThreadingColocation([lp.PyNode(sys.exit, 3), lp.PyNode(spin)])), launch_type)
    assert [(record.node, record.cause) for record in ended.failures] == [("co/0", "raised SystemExit: 3 (in co/0:0)")]


@both
def test_threads_end_with_the_last_of_them(launch_type: str) -> None:
    ended = run(of(lp.MultiThreadingColocation([lp.PyNode(finish), lp.PyNode(finish)])), launch_type)
    assert {str(record.state) for record in ended.nodes.values()} == {"FINISHED"}


class Busy:
    """Answers nothing until its test has ended."""

    done = threading.Event()

    def __init__(self, called: Path) -> None:
        self._called = called

    def wait(self) -> None:
        self._called.touch()
        self.done.wait()


def end(path: Path, *, fail: bool) -> None:
    """Once there is a file; a failure is not repeated."""
    until(path.exists, WAIT_S)
    if fail and lp.get_context().attempt == 1:
        raise ValueError("x")
    if fail:
        wait_for_stop()


@both
@pytest.mark.parametrize(
    ("fail", "error", "text"),
    [(False, NodeExited, "co/0:0 has ended"), (True, NodeRestarted, "co/0:0 was restarted")],
    ids=["one-finishes", "one-fails"],
)
def test_who_calls_a_child_that_its_colocation_ends_hears_what_becomes_of_it(
    fail: bool, error: type[Exception], text: str, launch_type: str, tmp_path: Path
) -> None:
    # Given a program that goes on when a colocation of it ends, or starts again, while a child is called from outside
    Busy.done.clear()
    busy, called = lp.CourierNode(Busy, tmp_path / "called"), tmp_path / "called"
    siblings = [busy, lp.PyNode(functools.partial(end, called, fail=fail))]
    program = lp.Program("colocation")
    with program.group("co", on_failure=lp.Restart(backoff_s=0.01)):
        program.add_node(lp.MultiThreadingColocation(siblings, return_on_first_completed=True))
    program.add_node(lp.PyNode(lp.wait_for_stop), label="other")
    with lp.launch(program, launch_type) as run:
        client: Any = busy.create_handle().dereference()
        try:
            # When the colocation ends the one that is called, Then who called is not told that the program stops
            with pytest.raises(error, match=text):
                client.wait()
        finally:
            Busy.done.set()
        if fail:
            until(lambda: run.nodes["co/0"].attempt == 2, WAIT_S, "its restart")
        assert run.stop_reason is None


@both
def test_threads_may_end_with_the_first_of_them(launch_type: str) -> None:
    # Given a child that finishes, one that polls and one that does not.
    nodes = [lp.PyNode(wait_for_stop), lp.PyNode(finish), lp.PyNode(spin)]
    # When the first has finished, then the program, which nobody stopped, ends with it.
    ended = run(of(lp.MultiThreadingColocation(nodes, return_on_first_completed=True)), launch_type)
    assert ended.failures == ()
    assert {str(record.state) for record in ended.nodes.values()} == {"FINISHED"}


@both
@each_kind
def test_stop_reaches_children_and_comes_from_them(kind: Any, launch_type: str) -> None:
    # Given children that poll, one that does not, one that only serves, and one that stops the program.
    nodes = [lp.PyNode(wait_for_stop), lp.PyNode(spin), lp.CourierNode(Server), lp.PyNode(stop)]
    ended = run(of(kind(nodes)), launch_type)
    assert ended.failures == ()
    assert {str(record.state) for record in ended.nodes.values()} == {"FINISHED"}


def call_after_stop(server: Any) -> None:
    lp.stop()
    assert lp.wait_for_stop(WAIT_S)
    assert server.where()[0] == "co/0:0"


@both
@each_kind
def test_a_child_that_serves_is_there_until_its_siblings_have_ended(kind: Any, launch_type: str) -> None:
    server = lp.CourierNode(Server)
    ended = run(of(kind([server, lp.PyNode(call_after_stop, server.create_handle())])), launch_type)
    assert ended.failures == ()


def test_a_thread_that_cannot_be_ended_is_left_behind() -> None:
    release = threading.Event()
    try:
        ended = run(of(lp.MultiThreadingColocation([lp.PyNode(release.wait), lp.PyNode(stop)])), "local_mt", IMPATIENT)
        assert str(ended.nodes["co/0:0"].state) == "KILLED"
        assert ended.failures == ()
    finally:
        release.set()


def test_children_share_the_fate_of_their_process() -> None:
    child = lp.CourierNode(Server)
    started = lp.launch(of(lp.MultiThreadingColocation([child])), "local_mp", stop_timeline=FAST_STOP)
    client = child.create_handle().dereference()
    os.kill(client.where()[1], signal.SIGKILL)
    courier.close(client)
    started.wait(raise_error=False)
    assert [started.nodes[name].exit.cause for name in ("co/0", "co/0:0")] == ["was killed by SIGKILL"] * 2  # type: ignore[union-attr]
    assert [record.node for record in started.failures] == ["co/0"]


# -- restarts ---------------------------------------------------------------------------------------------------------


@both
def test_threads_start_again_together(launch_type: str) -> None:
    # Given a colocation that is restarted, of a child that fails twice and one that serves.
    server = lp.CourierNode(Server)
    nodes = [server, lp.PyNode(fail_until, 3), lp.PyNode(wait_for_stop)]
    program = of(lp.MultiThreadingColocation(nodes), on_failure=lp.Restart(max_times=2, backoff_s=0.01))
    with lp.launch(program, launch_type, stop_timeline=FAST_STOP) as started:
        # When it is the third time, then all of them are in it.
        until(lambda: started.nodes["co/0"].attempt == 3, WAIT_S, "the third attempt")
        until(lambda: str(started.nodes["co/0:0"].state) == "READY", WAIT_S, "the server")
        assert _answer(server) == 3
        assert {record.attempt for record in started.nodes.values()} == {3}


@both
def test_processes_are_retried_each_for_itself(launch_type: str) -> None:
    # Given two children that fail twice each, which is all that each of them may.
    nodes = [lp.PyNode(fail_until, 3), lp.PyNode(fail_until, 3), lp.PyNode(finish)]
    ended = run(of(lp.MultiProcessingColocation(nodes, num_retries_on_failure=2)), launch_type)
    assert ended.failures == ()
    attempts = {name: record.attempt for name, record in ended.nodes.items()}
    assert attempts == {"co/0": 1, "co/0:0": 3, "co/0:1": 3, "co/0:2": 1}


@both
def test_after_the_last_retry_the_node_fails_with_the_error_of_the_child(launch_type: str) -> None:
    nodes = [lp.PyNode(wait_for_stop), lp.PyNode(fail_until, 9)]
    ended = run(of(lp.MultiProcessingColocation(nodes, num_retries_on_failure=1)), launch_type)
    assert [(record.node, record.cause) for record in ended.failures] == [
        ("co/0", "raised ValueError: attempt 2 (in co/0:1)")
    ]
    assert ended.nodes["co/0:1"].attempt == 2
    assert ended.nodes["co/0:0"].exit.cause == "finished"  # type: ignore[union-attr]  # it was asked to stop


@both
def test_processes_are_killed_as_one(launch_type: str) -> None:
    # Given a colocation whose failure the program outlives.
    program = of(lp.MultiProcessingColocation([lp.CourierNode(Server), lp.PyNode(fail)]), on_failure="ignore")
    program.add_node(lp.PyNode(wait_for_stop), label="other")
    with lp.launch(program, launch_type, stop_timeline=FAST_STOP) as started:
        until(lambda: started.nodes["co/0"].gone, WAIT_S, "the end of the colocation")
        # Then no part of it is left, the others live, and it is known who was at fault.
        assert not started.nodes["other/0"].state.ended
        causes = [started.nodes[name].exit.cause for name in ("co/0", "co/0:0", "co/0:1")]  # type: ignore[union-attr]
        assert causes == [
            "raised ValueError: boom (in co/0:1)",
            "was killed, because co/0:1 of the same colocation failed",
            "raised ValueError: boom",
        ]


@both
def test_processes_start_again_as_one(launch_type: str) -> None:
    # Given a unit that may start again once, of a child that fails twice without a retry left to it.
    server = lp.CourierNode(Server)
    unit = lp.MultiProcessingColocation([server, lp.PyNode(fail_until, 2), lp.PyNode(wait_for_stop)])
    program = of(unit, on_failure=lp.Restart(max_times=1, backoff_s=0.01))
    with lp.launch(program, launch_type, stop_timeline=FAST_STOP) as started:
        until(lambda: started.nodes["co/0"].attempt == 2, WAIT_S, "the second attempt")
        assert until(lambda: _answer(server), WAIT_S, "the server") == 2


def _answer(server: lp.CourierNode) -> int | None:
    try:
        with server.create_handle().dereference() as client:
            attempt: int = client.attempt()
    except NodeExited:
        pytest.fail("its callers were told that it is gone for good")
    except ConnectionError:
        return None
    return attempt if attempt > 1 else None


@both
def test_a_unit_is_ready_with_its_parts(launch_type: str) -> None:
    program = of(lp.MultiProcessingColocation([lp.CourierNode(Server), lp.CourierNode(Server)]))
    with lp.launch(program, launch_type) as started:
        until(lambda: str(started.nodes["co/0"].state) == "READY", WAIT_S, "the unit")
        assert [str(started.nodes[name].state) for name in ("co/0:0", "co/0:1")] == ["READY", "READY"]
