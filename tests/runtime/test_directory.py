"""Waiting for a node's record to change, next to the coordinator and across the network."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from typing import Any, cast

import grpc
import pytest

from grpc_poller import _grpc_is_up_here
from kourou import errors
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control import client, messages, service, stub as coordinator_stub
from kourou.runtime.control.client import CoordinatorClient
from kourou.runtime.control.coordinator import Coordinator, NodeControl
from kourou.runtime.control.directory import Directory
from kourou.runtime.control.node_events import Stop, Welcome
from kourou.runtime.control.resizing import Resizes
from kourou.runtime.control.service import CoordinatorServer
from kourou.runtime.model.events import Attached, Event, Published, Reported, StopAsked
from kourou.runtime.model.records import NodeRecord, NodeState, Outcome
from kourou.runtime.stopping.state import StopState
from polling import WAIT_S, closed_by_peer, until

__all__ = ["_grpc_is_up_here"]


def ready(record):
    return record.state is NodeState.READY


def test_wait_returns_at_once_when_it_holds_and_none_when_the_time_passed():
    directory = Directory([NodeRecord(name="a/0", state=NodeState.READY)])
    found = directory.wait("a/0", ready, 0)
    assert found is not None
    assert found.name == "a/0"
    started = time.monotonic()
    assert directory.wait("a/0", lambda record: False, 0.05) is None
    assert directory.wait("unknown/0", lambda record: True, 0.05) is None
    assert time.monotonic() - started >= 0.1
    assert directory.get("unknown/0") is None


def test_a_change_of_one_node_does_not_wake_those_who_wait_for_others():
    # given somebody who waits for a node, and counts how often the record is looked at
    directory = Directory([NodeRecord(name="a/0"), NodeRecord(name="b/0")])
    looks: list[NodeRecord] = []

    def look(record):
        looks.append(record)
        return ready(record)

    waiting = threading.Thread(target=directory.wait, args=("a/0", look, WAIT_S))
    waiting.start()
    until(lambda: looks, WAIT_S)
    # when another one changes many times, and then the node itself
    for attempt in range(100):
        directory.put(NodeRecord(name="b/0", attempt=attempt))
    directory.put(NodeRecord(name="a/0", state=NodeState.READY))
    waiting.join(WAIT_S)
    # then it looked when it came, and when the node had changed
    assert not waiting.is_alive()
    assert len(looks) == 2


def test_a_node_that_left_is_told_of_nobody_any_more():
    coordinator = Coordinator(
        [NodeRecord(name="a/0"), NodeRecord(name="b/0")], on_change=lambda _: None, tell_director=lambda _: None
    )
    calls: list[str] = []
    stays = coordinator.attach("a/0", 1, lambda: calls.append("stays"))
    leaves = coordinator.attach("a/0", 2, lambda: calls.append("leaves"))
    coordinator.follow("a/0", "b/0")
    coordinator.detach(leaves)
    calls.clear()
    coordinator.change("b/0", state=NodeState.READY)
    assert calls == ["stays"]
    taken = [stays.take(), stays.take()]
    assert [type(event) for event in taken] == [Welcome, NodeRecord]


def test_of_what_a_node_does_not_take_the_latest_waits_in_the_order_in_which_it_happened():
    # given a node that follows two, and takes nothing
    records = [NodeRecord(name=name) for name in ("a/0", "b/0", "c/0")]
    coordinator = Coordinator(records, on_change=lambda _: None, tell_director=lambda _: None)
    watcher = coordinator.attach("a/0", 1, lambda: None)
    for name in ("b/0", "c/0"):
        coordinator.follow("a/0", name)
    # when one of them changes a thousand times, and once more after the stop
    for pid in range(1000):
        coordinator.change("b/0", pid=pid)
    coordinator.broadcast_stop("enough")
    coordinator.change("b/0", state=NodeState.FAILED)
    # then what it takes is the other one's record, the stop, and that last change after it
    taken: list[Any] = list(iter(watcher.take, None))
    assert [type(event) for event in taken] == [Welcome, NodeRecord, Stop, NodeRecord]
    assert [taken[1].name, taken[3].name, taken[3].state] == ["c/0", "b/0", NodeState.FAILED]


def test_wait_wakes_when_the_record_changes():
    directory = Directory([NodeRecord(name="a/0")])
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(directory.wait("a/0", ready, WAIT_S)))
    waiter.start()
    directory.put(NodeRecord(name="b/0", state=NodeState.READY))
    directory.put(NodeRecord(name="a/0", state=NodeState.STARTING))
    directory.put(NodeRecord(name="a/0", state=NodeState.READY))
    waiter.join(WAIT_S)
    assert [record.name for record in found] == ["a/0"]
    assert [record.name for record in directory.all()] == ["a/0", "b/0"]


class Control:
    """A coordinator, its server, and a client of it that plays a node."""

    def __init__(self, folder=None):
        self.told: list[str] = []
        self.events: list[Event] = []
        self.coordinator = Coordinator(
            [NodeRecord(name="a/0", attempt=1), NodeRecord(name="b/0")],
            on_change=lambda record: None,
            tell_director=self.events.append,
        )
        self.server = CoordinatorServer(self.coordinator, token="secret", status=lambda: cast("Any", None))
        self.address = self.server.address if folder is None else self.server.listen_in(folder)
        self.client = self.connect("secret")

    def connect(self, token, attempt=1):
        return CoordinatorClient(
            self.address,
            token=token,
            name="a/0",
            attempt=attempt,
            on_stop=lambda: self.told.append("stop"),
            on_release=lambda removed: self.told.append(f"release {removed}".strip()),
            on_lost=lambda: self.told.append("lost"),
        )


@pytest.fixture(params=["port", "folder"])
def control(request, tmp_path):
    made = Control(None if request.param == "port" else str(tmp_path))
    yield made
    made.client.close()
    made.server.close()
    assert list(tmp_path.iterdir()) == []


def test_a_node_publishes_and_sees_others_across_the_network(control):
    control.client.attach()
    control.client.update("a/0", state=NodeState.READY, endpoint="{}", serves_only=True)
    record = control.coordinator.directory.wait("a/0", ready, WAIT_S)
    assert (record.state, record.endpoint, record.serves_only) == (NodeState.READY, "{}", True)
    assert control.client.wait("b/0", ready, 0.05) is None
    control.coordinator.change("b/0", state=NodeState.READY)
    assert control.client.wait("b/0", ready, WAIT_S).name == "b/0"
    assert control.client.wait("a/0", ready, WAIT_S).endpoint == "{}"


def test_what_comes_by_the_stream_is_not_replaced_by_an_earlier_answer(control, monkeypatch):
    # given a node that asks for a group
    control.client.attach()
    decode = messages.record_from_proto

    def late(message):
        if threading.current_thread() is threading.main_thread():
            # when a member becomes ready after the answer was given, and before that is looked at
            control.coordinator.change("b/0", state=NodeState.READY)
            assert control.client._directory.wait("b/0", ready, WAIT_S)
        return decode(message)

    monkeypatch.setattr(messages, "record_from_proto", late)
    # then the node knows the newer state
    assert [record.state for record in control.client.members("b")] == [NodeState.READY]


def test_a_question_whose_answer_is_to_come_is_carried_out_once_however_many_ask():
    # given more requests than are kept, none of which is done yet
    go_on, done, asked = threading.Event(), [], 150

    def carry_out(resize, origin):
        assert go_on.wait(WAIT_S)
        done.append(resize.label)
        return (resize.label,)

    resizes = Resizes(carry_out)
    requests = [pb.ResizeRequest(id=str(number), label=str(number)) for number in range(asked)]
    assert not any(resizes.answer(request).done for request in requests)
    go_on.set()
    # when all ask again and again, as who asks does, and once more, as if an answer had been lost
    for request in requests:
        until(lambda: resizes.answer(request).done, WAIT_S)  # noqa: B023
        assert list(resizes.answer(request).names) == [request.label]
    # then each was done once
    assert sorted(done, key=int) == [request.label for request in requests]


def test_stop_release_and_loss_reach_a_node_in_order(control):
    control.client.attach()
    control.client.request_stop("enough")
    assert control.events[-1] == StopAsked(reason="enough", origin="a/0")
    control.coordinator.broadcast_stop("enough")
    control.coordinator.broadcast_stop("again")
    control.coordinator.broadcast_release()
    until(lambda: control.told == ["stop", "release"], WAIT_S)
    control.server.close()
    until(lambda: control.told == ["stop", "release", "lost"], WAIT_S)


def test_a_node_that_comes_late_is_told_that_the_program_stops(control):
    control.coordinator.broadcast_stop("enough")
    control.coordinator.broadcast_release()
    control.client.attach()
    until(lambda: control.told == ["stop", "release"], WAIT_S)


@pytest.mark.parametrize("late", [False, True])
def test_a_node_hears_of_its_removal_in_one_word(late, control):
    # it must not be seen to stop, and not yet why
    if late:
        control.coordinator.dismiss("a/0", "run.remove()")
    control.client.attach()
    control.coordinator.dismiss("a/0", "run.remove()")
    control.coordinator.broadcast_stop("enough")
    until(lambda: "stop" in control.told, WAIT_S)
    assert set(control.told[: control.told.index("stop")]) == {"release run.remove()"}


def test_a_node_that_closes_by_itself_did_not_lose_its_coordinator(control):
    control.client.attach()
    control.client.close()
    control.server.close()
    assert "lost" not in control.told


def test_who_is_there_and_its_last_words_are_passed_on(control):
    control.client.attach()
    outcome = Outcome(kind="raised", code=1, exception="E: Köln", traceback="…")
    control.client.report("a/0", outcome)
    control.client.close()
    assert control.events == [Attached(name="a/0", attempt=1), Reported(name="a/0", attempt=1, outcome=outcome)]


def test_an_earlier_attempt_changes_nothing_any_more(control):
    control.coordinator.change("a/0", attempt=2, state=NodeState.STARTING)
    control.client.attach()
    control.client.update("a/0", state=NodeState.READY)  # of attempt 1
    control.client.close()  # which waits until it is taken
    assert control.coordinator.directory.get("a/0").state is NodeState.STARTING
    NodeControl(coordinator=control.coordinator, origin="a/0", attempt=2).update("a/0", state=NodeState.READY)
    assert control.coordinator.directory.get("a/0").state is NodeState.READY


def test_a_node_that_becomes_ready_when_the_program_stops_is_stopping_all_the_same(control):
    control.client.attach()
    control.coordinator.change("a/0", state=NodeState.STOPPING)
    control.client.update("a/0", state=NodeState.READY, endpoint="{}")
    control.client.close()  # which waits until it is taken
    record = control.coordinator.directory.get("a/0")
    assert (record.state, record.endpoint) == (NodeState.STOPPING, "{}")


def test_without_the_token_nothing_is_taken(control):
    stranger = control.connect("guess")
    with pytest.raises(errors.KourouError):
        stranger.request_stop("hostile")
    assert control.events == []
    stranger.close()
    with grpc.insecure_channel(control.server.address) as channel:
        call: Any = channel.unary_stream("/kourou.v1.Coordinator/Attach")
        with pytest.raises(grpc.RpcError) as refused:
            list(call(b"\xff\xff not a message", timeout=WAIT_S))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_calls_without_the_token_take_no_thread(control):
    # Given callers without the token, whose requests never come
    silence = threading.Event()

    def nothing():
        silence.wait(WAIT_S)
        yield from ()

    before = set(threading.enumerate())
    with grpc.insecure_channel(control.server.address) as channel:
        # When they call, then each is refused without waiting for it
        calls: list[Any] = [
            channel.stream_unary(f"/kourou.v1.Coordinator/{method}").future(nothing(), timeout=WAIT_S)
            for method in ("Status", "Attach", "Nonsense") * 20
        ]
        assert {call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        begun = {thread.name for thread in set(threading.enumerate()) - before}
        assert not {name for name in begun if name.startswith("kourou")}
        silence.set()
    # And those who have it are served
    control.client.attach()
    assert control.coordinator.directory.get("a/0") is not None


def test_connections_without_a_call_are_few(monkeypatch):
    # Given a coordinator of one node with room for six connections that have not shown the token, half of one host
    monkeypatch.setattr(service, "_SPARE_CONNECTIONS", 4)
    coordinator = Coordinator([NodeRecord(name="a/0")], on_change=lambda _: None, tell_director=lambda _: None)
    server = CoordinatorServer(coordinator, token="t", status=lambda: cast("Any", None))
    host, _, port = server.address.rpartition(":")
    with contextlib.ExitStack() as stack:
        # When more connect
        strangers = [stack.enter_context(socket.create_connection((host, int(port)), WAIT_S)) for _ in range(30)]
        # Then the rest is sent away
        until(lambda: sum(closed_by_peer(stranger) for stranger in strangers) == 30 - 3, WAIT_S)
        server.close()


@pytest.fixture
def suspended(control, monkeypatch, capfd):
    """A coordinator that answers nothing until the event is set, as that of a launcher which is suspended."""
    answers = threading.Event()
    change, report = control.coordinator.change, control.coordinator.report

    def later(function):
        def call(*args, **kwargs):
            answers.wait(WAIT_S)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(control.coordinator, "change", later(change))
    monkeypatch.setattr(control.coordinator, "report", later(report))
    monkeypatch.setattr(client, "_TAKEN_S", 0.1)
    yield answers
    answers.set()


def test_what_a_node_says_to_a_suspended_launcher_is_taken_when_that_goes_on(control, suspended, capfd):
    # given a node whose launcher answers nothing
    control.client.attach()
    said = ""

    def complained():
        nonlocal said
        said += capfd.readouterr().err
        return "a/0 waits for its launcher to take its last words" in said

    # when it becomes ready, and ends
    def live():
        control.client.update("a/0", state=NodeState.READY)
        control.client.report("a/0", Outcome(kind="finished"))
        control.client.close()

    node = threading.Thread(target=live)
    node.start()
    until(complained, WAIT_S)
    # then both arrive once the launcher is back
    suspended.set()
    node.join(WAIT_S)
    assert control.coordinator.directory.get("a/0").state is NodeState.READY
    finished = Reported(name="a/0", attempt=1, outcome=Outcome(kind="finished"))
    assert control.events == [Attached(name="a/0", attempt=1), Published(name="a/0", attempt=1, ready=True), finished]
    assert control.told == []


def test_a_node_whose_launcher_is_gone_does_not_insist(control, suspended):
    control.client.attach()
    raised: list[Any] = []

    def live():
        try:
            control.client.update("a/0", state=NodeState.READY)
        except errors.ServerUnavailable as error:
            raised.append(error)

    node = threading.Thread(target=live)
    node.start()
    suspended.set()
    control.server.close()
    node.join(WAIT_S)
    until(lambda: control.told == ["lost"], WAIT_S)
    assert not node.is_alive()


def test_a_node_attaches_when_its_suspended_launcher_goes_on(control, monkeypatch):
    # given a coordinator that does not welcome anybody for a while
    monkeypatch.setattr(client, "_ATTACH_S", 0.05)
    welcomed = threading.Event()
    attach = control.coordinator.attach

    def late(*args):
        welcomed.wait(WAIT_S)
        return attach(*args)

    monkeypatch.setattr(control.coordinator, "attach", late)
    asked = threading.Event()
    is_listening = coordinator_stub.CoordinatorStub.is_listening

    def look(stub):
        asked.set()
        return is_listening(stub)

    monkeypatch.setattr(coordinator_stub.CoordinatorStub, "is_listening", look)
    # when a node has waited for longer than it would for one that is gone
    node = threading.Thread(target=control.client.attach)
    node.start()
    assert asked.wait(WAIT_S)
    welcomed.set()
    # then it is there in the end
    node.join(WAIT_S)
    assert not node.is_alive()
    assert control.client.wait("b/0", lambda record: True, WAIT_S) is not None


def test_a_child_of_fork_leaves_the_coordinator_to_its_parent(control, monkeypatch):
    control.client.attach()
    # when the calls are those of another process than the one that made the client
    with monkeypatch.context() as forked:
        forked.setattr(control.client._stub, "_owner", 0)
        forked.setattr(control.client._stream._messages, "_owner", 0)
        with pytest.raises(errors.UsedAfterFork, match="spawn or forkserver"):
            control.client.update("a/0", state=NodeState.READY)
        control.client._stream.cancel()
    # then the parent goes on hearing
    assert control.client.wait("b/0", lambda record: True, WAIT_S) is not None
    assert control.told == []


def test_a_node_whose_launcher_is_not_there_says_so(control, monkeypatch):
    monkeypatch.setattr(client, "_ATTACH_S", 0.05)
    control.server.close()
    with pytest.raises(errors.ServerUnavailable, match="did not answer"):
        control.client.attach()


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "GRPC_ADDRESS_HTTP_PROXY"])
def test_nothing_of_a_run_asks_a_proxy(variable, monkeypatch):
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    control = Control()
    try:
        control.client.attach()
        control.client.update("a/0", state=NodeState.READY)
    finally:
        control.client.close()
        control.server.close()


def test_a_stop_state_calls_its_handlers_once_and_survives_those_that_raise(caplog):
    state = StopState(lambda reason: None)
    calls = []
    done = threading.Event()

    def fail():
        raise ValueError("in a handler")

    state.register(fail)
    state.register(lambda: calls.append("early"))
    forgotten = calls.clear
    state.register(forgotten)
    state.unregister(forgotten)
    state.unregister(print)  # never registered
    state.register(done.set)
    state.set()
    state.set()
    assert done.wait(WAIT_S)
    state.register(lambda: calls.append("late"))
    assert calls == ["early", "late"]
    assert "in a handler" in caplog.text
    assert not state.released.is_set()
    state.release()
    assert state.released.is_set()


def test_a_node_that_has_not_begun_when_its_program_stops_never_does():
    # Given nodes of which one has begun, one begins when the program stops already, and one is not yet interrupted then
    interrupted: list[str] = []
    begun, late, thread = (
        StopState(lambda reason: None, interrupt_start=lambda: interrupted.append("begun")),
        StopState(lambda reason: None, interrupt_start=lambda: interrupted.append("late")),
        StopState(lambda reason: None),
    )
    begun.begin()
    # When
    for state in (begun, late, thread):
        state.set()
        state.set()
    # Then
    assert interrupted == ["late"]
    late.begin()
    thread.begin()
    assert interrupted == ["late", "late"]


def test_what_a_node_is_removed_for_is_known_when_its_parts_stop():
    state = StopState(lambda reason: None)
    parts = [state.branch(), state.branch().branch()]
    seen: list[str] = []

    def look(at: StopState) -> None:
        seen.append(at.removed)

    with contextlib.ExitStack() as watches:
        for each in (state, *parts):
            watches.enter_context(each.watched_by(functools.partial(look, each)))
        state.release("kourou scale")
    assert seen == ["kourou scale"] * 3
    assert state.branch().removed == "kourou scale"


def test_a_part_that_stops_by_itself_ends_no_program():
    state = StopState(lambda reason: None)
    part = state.branch().branch()
    part.release()
    assert not part.ends_program
    state.set()
    assert part.ends_program
    state.release("kourou scale")
    assert not part.ends_program
    part.request("enough")
    assert part.ends_program
