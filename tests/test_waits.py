"""Who waits for whom in this process, seen by another thread of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import pytest

from kourou import aio
from kourou.courier import Client, Server, address as client_address
from kourou.waits import Activity, Blocked, Working, look, waits_in, works_in
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")


@waits_in(lambda here: Blocked(on=here["name"], what="a gate", since=here["since"], ends="it opens"))
def wait_at(gate: threading.Event, name: str, since: float) -> None:
    gate.wait(10)


@works_in(lambda here: Working(who=here["who"], doing=here["doing"], since=here["since"]))
def work(gate: threading.Event, who: str, doing: str, since: float) -> None:
    wait_at(gate, f"after {who}", since)


@contextmanager
def waiting(target: object, *args: object) -> Iterator[threading.Event]:
    gate = threading.Event()
    thread = threading.Thread(target=target, args=(gate, *args), name="waits")  # type: ignore[arg-type]
    thread.start()
    try:
        yield gate
    finally:
        gate.set()
        thread.join()


def of(who: str, default: str = "") -> list[Activity]:
    return [one for one in look(default) if one.who == who]


def test_a_thread_is_found_where_it_waits() -> None:
    with waiting(work, "a/0", "step", time.monotonic() - 5):
        until(lambda: any(one.wait for one in of("a/0")), 10)
        [found] = of("a/0")
        assert found.doing == "step"
        assert found.for_s is not None
        assert found.for_s >= 5
        assert found.wait is not None
        assert (found.wait.on, found.wait.what, found.wait.ends) == ("after a/0", "a gate", "it opens")
    assert of("a/0") == []


def test_a_task_is_found_where_it_awaits() -> None:
    # given a coroutine that answers a call, and one that does a node's own work, both await another node
    with ExitStack() as stack:
        slow = stack.enter_context(Server("slow/0"))
        relay = stack.enter_context(Server("relay/0"))
        gate = threading.Event()
        stack.callback(gate.set)
        slow.bind("step", lambda: gate.wait(10))
        client = stack.enter_context(Client(slow.address))

        async def ask() -> bool:
            return await aio.Client(client).step()  # type: ignore[no-any-return]

        relay.bind("ask", ask)
        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        stack.callback(thread.join)
        stack.callback(gate.set)
        answer = stack.enter_context(Client(relay.address)).futures.ask()
        # when somebody looks, then both are seen to wait
        for who, doing in (("relay/0", "ask"), ("own/0", "")):
            until(lambda: any(one.wait and one.wait.what == "step" for one in of(who, default="own/0")), 10)  # noqa: B023
            [found] = [one for one in of(who, default="own/0") if one.wait and one.wait.what == "step"]
            assert found.doing == doing
            assert found.wait is not None
            assert found.wait.on == client_address(client)
            assert "aio.Client(client).step()" in found.where
        gate.set()
        assert answer.result(10)


def test_a_thread_that_no_mark_tells_of_works_for_the_process_s_node() -> None:
    with waiting(wait_at, "b/0", time.monotonic()):
        until(lambda: any(one.wait for one in of("own/0", default="own/0")), 10)
        assert [one.wait.on for one in of("own/0", default="own/0") if one.wait] == ["b/0"]
        assert [one for one in look() if one.who == "own/0"] == []


def test_variables_that_are_not_there_yet_are_passed_over() -> None:
    @waits_in(lambda here: Blocked(on=here["late"]))
    def not_yet(gate: threading.Event) -> None:
        gate.wait(10)
        late = "x/0"
        assert late

    with waiting(not_yet):
        assert [one.wait for one in of("c/0", default="c/0") if one.wait] == []


class Busy:
    """Answers when it may."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def hold(self) -> None:
        self.gate.wait(20)

    def parked(self) -> Future[None]:
        return Future()


@pytest.mark.parametrize("lane", ["inproc", "local"])
def test_a_call_is_a_wait_of_its_caller_and_work_of_its_server(lane: str) -> None:
    busy = Busy()
    with ExitStack() as stack:
        server = Server("learner/0", token="t")
        server.bind_object(busy)
        stack.enter_context(server)
        client = stack.enter_context(Client(server.address, token="t", lane=lane))
        caller = threading.Thread(target=client.hold, name="caller")
        caller.start()
        stack.callback(caller.join)
        stack.callback(busy.gate.set)
        until(lambda: of("learner/0") and any(one.wait and one.wait.ends for one in of("")), 10)
        [answers] = of("learner/0")
        assert (answers.doing, answers.wait) == ("hold", None)
        assert "in hold: self.gate.wait" in answers.where
        waits = [one.wait for one in of("me/0", "me/0") if one.wait]
        assert [(wait.on, wait.what) for wait in waits] == [(server.address, "hold")]
        assert "time-out" in waits[0].ends


def test_a_server_whose_threads_are_all_taken_still_tells_of_itself() -> None:
    busy = Busy()
    with ExitStack() as stack:
        server = Server("learner/0", token="t", thread_pool_size=1)
        server.bind_object(busy)
        server.bind("kourou.report", server.report)
        stack.enter_context(server)
        client = stack.enter_context(Client(server.address, token="t", timeout_s=20))
        stack.callback(busy.gate.set)
        calls = [client.futures.hold() for _ in range(3)]
        stack.callback(lambda: [call.cancel() for call in calls])
        begun = [False, True, True]  # whether a call waits for a thread: two of three
        until(lambda: [call.for_s is None for call in server.report().calls] == begun, 10)
        report = getattr(client, "kourou.report")()
        assert [(call.method, call.for_s is None) for call in report.calls] == [
            ("hold", False),
            ("hold", True),
            ("hold", True),
        ]
        assert report.threads == 1


def test_calls_that_wait_for_no_thread_are_told_as_well() -> None:
    with ExitStack() as stack:
        server = Server("learner/0", token="t")
        server.bind_object(Busy())
        stack.enter_context(server)
        client = stack.enter_context(Client(server.address, token="t"))
        call = client.futures.parked()
        stack.callback(call.cancel)
        until(lambda: [one.for_s is not None for one in server.report().calls] == [True], 10)
        assert server.report().answered == 0
