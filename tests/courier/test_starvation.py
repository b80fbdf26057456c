"""Calls that wait for a thread: the pool grows where nobody has set its size; else it is told what they wait for."""

import logging
import threading

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.calling import reply
from kourou.courier.serving import starvation
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def quick(monkeypatch):
    """StarvationMonitor are told after a moment."""
    monkeypatch.setattr(starvation, "PATIENCE_S", 0.1)
    monkeypatch.setattr(starvation, "_GROW_AFTER_S", 0.1)
    monkeypatch.setattr(starvation, "_TICK_S", 0.02)


def test_a_barrier_of_more_callers_than_threads_is_passed(quick):
    # given a method that waits for 50 callers, and a server of 16 threads
    barrier = threading.Barrier(50)
    with Server("barrier/0", token="t") as server, Client(server.address, token="t", timeout_s=50) as client:
        server.bind("wait", barrier.wait)
        # when as many call
        futures = [client.futures.wait() for _ in range(50)]
        # then the pool grows until all are there
        assert sorted(future.result() for future in futures) == list(range(50))


def test_nodes_that_call_each_other_back_are_answered(quick):
    with Server("a", token="t") as first, Server("b", token="t") as second:
        to_first, to_second = Client(first.address, token="t"), Client(second.address, token="t")
        first.bind("down", lambda depth: depth and to_second.down(depth - 1))
        second.bind("down", lambda depth: depth and to_first.down(depth - 1))
        assert courier.with_options(to_first, timeout_s=50).down(60) == 0
        courier.close(to_first)
        courier.close(to_second)


def test_a_pool_of_a_given_size_keeps_it_and_says_who_waits_for_whom(quick, caplog):
    # given a node of one thread, whose method calls a method of the same node
    with (
        caplog.at_level(logging.WARNING, "kourou.courier"),
        Server("learner/0", token="t", thread_pool_size=1) as server,
        Client(server.address, token="t") as client,
    ):
        server.bind("get", lambda: 1)
        server.bind("step", lambda: client.get())  # noqa: PLW0108 - a function, not a client's stub
        # when it is called
        future = client.futures.step()
        # then one line names node, methods, and the remedy
        until(lambda: caplog.records, 20, "it is told")
        text = caplog.records[0].getMessage()
        assert "learner/0: all 1 threads run step ×1" in text
        assert "1 calls wait for one (get ×1)" in text
        assert "'thread_pool_size': 3" in text
        future.cancel()


def test_what_people_ask_a_server_whose_threads_are_taken_is_run_once(quick):
    # given a server of one thread, which is taken, and a call of one of kourou's own methods
    blocked, told, release, tell = (threading.Event() for _ in range(4))
    asked = []

    def block() -> None:
        blocked.set()
        release.wait(50)

    def ask() -> str:
        asked.append(threading.current_thread().name)
        told.set()
        tell.wait(50)
        return "told"

    with (
        Server("learner/0", token="t", thread_pool_size=1) as server,
        Client(server.address, token="t", timeout_s=50) as client,
    ):
        for name, method in {"block": block, "kourou.ask": ask, "get": lambda: 1}.items():
            server.bind(name, method)
        blocking = client.futures.block()
        assert blocked.wait(50)
        answer = getattr(client.futures, "kourou.ask")()
        # when that is begun elsewhere, and the thread takes up what comes after it meanwhile
        assert told.wait(50)
        after = client.futures.get()
        release.set()
        assert after.result() == 1
        blocking.result()
        tell.set()
        # then it has its answer, and has run once
        assert answer.result() == "told"
        assert len(asked) == 1


def test_whoever_waits_without_a_time_out_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(reply, "PATIENCE_S", 0.05)
    release = threading.Event()
    with (
        caplog.at_level(logging.WARNING, "kourou.courier"),
        Server("learner/0", token="t") as server,
        Client(server.address, token="t", lane="local") as client,
    ):
        server.bind("wait", release.wait)
        thread = threading.Thread(target=client.wait)
        thread.start()
        until(lambda: caplog.records, 20)
        release.set()
        thread.join()
        release.clear()
        client.wait(0.2)  # four times the patience
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1
        assert told[0].startswith(f"wait of {server.address} has not answered for")
