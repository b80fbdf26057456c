"""Calling many nodes at once."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import pickle
import threading
import types
from typing import Any

import kourou as lp
from kourou import courier
from kourou.courier import current_call
from kourou.errors import (
    BroadcastError,
    CallCancelled,
    DeadlineExceeded,
    HandleNotResolved,
    NodeExited,
    RemoteError,
    SerializationError,
)
from kourou.runtime.graph.broadcast import Following
from kourou.runtime.model.records import NodeRecord, NodeState
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

EIGHT = threading.Barrier(8)

both = pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])


class Actor:
    def __init__(self, index: int) -> None:
        self._index = index
        self._begun = self._cancelled = 0
        self._go = threading.Event()

    def add(self, number: int, *, to: int = 0) -> int:
        return self._index + number + to

    def fail_if(self, *indexes: int) -> int:
        if self._index in indexes:
            raise KeyError(f"no {self._index}")
        return self._index

    def wait_if(self, *indexes: int) -> int:
        """Answer at once, or never: until the call is cancelled."""
        if self._index in indexes:
            self._begun += 1
            assert current_call().cancelled.wait(WAIT_S)
            self._cancelled += 1
        return self._index

    def cancelled(self) -> int:
        return self._cancelled

    def begun(self) -> int:
        return self._begun

    def meet(self) -> int:
        """Wait until all have been called."""
        EIGHT.wait(WAIT_S)
        return self._index

    def go(self) -> None:
        self._go.set()

    def when_told(self) -> int:
        assert self._go.wait(WAIT_S)
        return self._index

    def first(self) -> str:
        return "a method"

    def exit(self) -> None:
        os._exit(3)

    def __call__(self) -> int:
        return -self._index


def program_of(count: int, **group: Any) -> tuple[lp.Program, list[Any]]:
    program = lp.Program("broadcast")
    with program.group("actor", **group):
        return program, [program.add_node(lp.CourierNode(Actor, index)) for index in range(count)]


@both
def test_all_are_called_and_answer_in_order(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        assert len(actors) == 3
        assert actors.add(10, to=100) == [110, 111, 112]
        assert actors.gather.add(10) == [10, 11, 12]
        assert actors() == [0, -1, -2]
        assert actors.first() in {0, -1, -2}  # a way to take results, here of calls of the objects themselves
        assert actors.gather.first() == ["a method"] * 3
        # Handles and clients may be mixed, and come more than once.
        with handles[1].dereference() as client, lp.broadcast([handles[2], client, client]) as mixed:
            assert mixed.add(0) == [2, 1, 1]


def call_all(clients: list[Any], group: Any) -> None:
    assert lp.broadcast(clients).add(1) == [1, 2]
    assert group.add(2) == [2, 3]
    lp.stop()


@both
def test_it_works_in_a_node(launch_type: str) -> None:
    program, handles = program_of(2)
    program.add_node(lp.PyNode(call_all, handles, lp.Deferred(lp.broadcast, handles)), label="caller")
    lp.launch(program, launch_type).wait()


@both
def test_the_error_keeps_what_arrived_and_names_who_failed(launch_type: str) -> None:
    program, handles = program_of(4)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        with pytest.raises(BroadcastError, match="fail_if: 2 of 4 nodes failed: actor/1 raised KeyError: ") as caught:
            actors.fail_if(1, 3)
        error = pickle.loads(pickle.dumps(caught.value))
        for told in (caught.value, error):
            assert told.results == {0: 0, 2: 2}
            assert sorted(told.failures) == [1, 3]
            assert isinstance(told.failures[3], KeyError)
            assert isinstance(told.failures[3], RemoteError)
            assert (told.method, told.nodes) == ("fail_if", ("actor/0", "actor/1", "actor/2", "actor/3"))
            assert "actor/3 raised KeyError: 'no 3'" in str(told)
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_node_that_has_ended_fails_and_the_others_answer() -> None:
    program, handles = program_of(2, on_failure="ignore")
    with lp.launch(program, "local_mp") as run:
        with handles[1].dereference() as client:
            client.futures.exit()
            until(lambda: run.nodes["actor/1"].gone, WAIT_S, "the end of actor/1")
        with lp.broadcast(handles) as actors:
            with pytest.raises(BroadcastError, match=r"actor/1 \(NodeExited: .*exited with code 3") as caught:
                actors.add(1)
            assert caught.value.results == {0: 1}
            assert isinstance(caught.value.failures[1], NodeExited)
            assert actors.first.add(1) == 1


@both
def test_a_time_out_is_each_call_s_own(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        first, second, third = actors._clients
        hasty = lp.broadcast([first, courier.with_options(second, timeout_s=0.2), third])
        with pytest.raises(BroadcastError, match=r"actor/1 \(DeadlineExceeded") as caught:
            hasty.wait_if(1)
        assert caught.value.results == {0: 0, 2: 2}
        assert isinstance(caught.value.failures[1], DeadlineExceeded)
        # As they come, too; and its handler is told.
        stream = hasty.stream.wait_if(1)
        assert sorted(index for index, _ in itertools.islice(stream, 2)) == [0, 2]
        with pytest.raises(BroadcastError, match="1 of 3"):
            next(stream)
        assert list(stream) == []
        until(lambda: actors.cancelled() == actors.begun(), WAIT_S, "the handlers")


def test_a_node_that_never_starts_is_waited_for_no_longer_than_the_time_out() -> None:
    go = threading.Event()
    program, handles = program_of(1)
    handles.append(program.add_node(lp.CourierNode(go.wait), label="late"))
    with (
        lp.launch(program, "local_mt"),
        handles[1].dereference() as late,
        lp.broadcast([handles[0], courier.with_options(late, timeout_s=0.5)]) as group,
    ):
        with pytest.raises(BroadcastError, match=r"late/0 \(DeadlineExceeded") as caught:
            group.add(1)
        assert caught.value.results == {0: 1}
        assert list(caught.value.failures) == [1]
        stream = group.stream.add(1)
        assert next(stream) == (0, 1)
        with pytest.raises(BroadcastError, match="late/0"):
            next(stream)
        go.set()


@both
def test_the_first_result_is_enough_and_the_others_are_cancelled(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        assert actors.first.wait_if(0, 2) == 1
        until(lambda: actors.cancelled() == actors.begun(), WAIT_S, "the cancelled handlers")
        # A failure is no result, unless there are only failures.
        assert actors.first.fail_if(0, 1) == 2
        with pytest.raises(BroadcastError, match="3 of 3"):
            actors.first.fail_if(0, 1, 2)


@both
def test_results_come_as_they_are_ready(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        stream = actors.stream.when_told()
        for index in (2, 0, 1):
            with handles[index].dereference() as client:
                client.go()
            assert next(stream) == (index, index)
        assert list(stream) == []


@both
def test_there_is_a_future_for_each_node(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        waiting = actors.futures.when_told()
        actors.go()
        assert [future.result(WAIT_S) for future in waiting] == [0, 1, 2]
        zero, one, _ = actors.futures.fail_if(1)
        assert zero.result(WAIT_S) == 0
        with pytest.raises(KeyError, match="no 1"):
            one.result(WAIT_S)


@both
def test_failures_in_a_stream_come_last(launch_type: str) -> None:
    program, handles = program_of(3)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        results = []
        with pytest.raises(BroadcastError, match="1 of 3") as caught:
            results.extend(actors.stream.fail_if(0))
        assert caught.value.results == {1: 1, 2: 2}


@both
def test_leaving_a_stream_cancels_the_rest(launch_type: str) -> None:
    program, handles = program_of(2)
    with lp.launch(program, launch_type), lp.broadcast(handles) as actors:
        for _ in actors.stream.wait_if(1):
            until(lambda: actors.begun() == [0, 1], WAIT_S, "the handler")  # one that has not is not begun any more
            break
        until(lambda: actors.cancelled() == [0, 1], WAIT_S, "the cancelled handler")


def test_the_calls_run_at_the_same_time() -> None:
    barrier = threading.Barrier(4)

    class Meeting:
        def meet(self) -> bool:
            barrier.wait(WAIT_S)
            return True

    program = lp.Program("meeting")
    with program.group("m"):
        handles = [program.add_node(lp.CourierNode(Meeting)) for _ in range(4)]
    with lp.launch(program, "local_mt"), lp.broadcast(handles) as group:
        assert group.meet() == [True] * 4


def test_a_closed_client_is_a_failure() -> None:
    program, handles = program_of(1)
    with lp.launch(program, "local_mt"):
        client = handles[0].dereference()
        courier.close(client)
        with pytest.raises(BroadcastError) as caught:
            lp.broadcast([client]).add(1)
        assert isinstance(caught.value.failures[0], CallCancelled)


def test_arguments_that_cannot_be_pickled_reach_nobody() -> None:
    program, handles = program_of(2)
    with lp.launch(program, "local_mt"), lp.broadcast(handles) as actors, pytest.raises(SerializationError):
        actors.add(threading.Lock())


def test_nobody_is_called() -> None:
    nobody = lp.broadcast([])
    assert nobody.add(1) == []
    assert list(nobody.stream.add(1)) == []
    with pytest.raises(BroadcastError, match="no node to call"):
        nobody.first.add(1)


def test_what_is_called_are_handles_and_clients() -> None:
    program, handles = program_of(1)
    with pytest.raises(TypeError, match="handles and clients"):
        lp.broadcast(["actor/0"])
    with pytest.raises(HandleNotResolved, match=r"lp\.launch first"):
        lp.broadcast(handles)
    with pytest.raises(AttributeError, match="private"):
        lp.broadcast([])._secret()
    assert "actor/0" in repr(program.handle_to("actor"))


def test_a_call_of_many_is_made_of_all_at_once() -> None:
    program, handles = program_of(8)
    with lp.launch(program, "local_mt"), lp.broadcast(handles) as actors:
        assert sorted(actors.meet()) == list(range(8))
        with pytest.raises(BroadcastError, match="8 of 8 nodes failed"):
            lp.broadcast(list(actors._clients), timeout_s=0.3).wait_if(*range(8))


def test_threads_that_call_a_group_may_find_at_once_that_a_member_has_gone() -> None:
    # given a group that two threads call, one of whose members is gone
    both_know = threading.Barrier(2)

    class Control:
        present = ("a/0", "a/1")

        def members(self, _: str) -> list[NodeRecord]:
            return [NodeRecord(name=name) for name in self.present]

        def wait(self, *_: Any) -> NodeRecord:
            both_know.wait(WAIT_S)
            return NodeRecord(name="a/1", state=NodeState.FINISHED)

    control: Any = Control()
    binding: Any = types.SimpleNamespace(control=control)
    group = Following("a", lambda target: courier.Client(f"{target.name}:1", token="t"), binding)
    kept, _ = group.clients()
    control.present = control.present[:1]
    # when both find that out before either lets go of it, then both call the other one
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = [pool.submit(group.clients) for _ in range(2)]
        assert [each.result() for each in found] == [[kept]] * 2
    group.close()
