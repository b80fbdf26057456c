"""Readers of other hosts: one process of each gets a version, from the host before it, while that still gets it."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou import courier
from kourou.courier.wire import copying
from kourou.weights import Client, Relaying, Server, View, relay
from kourou.weights.forwarding import Transit
from kourou.weights.messages import Block, Head
from polling import WAIT_S, until
from quiet_ports import quiet_port
from weights.test_restart import server_process

pytestmark = pytest.mark.usefixtures("no_leaks")


class Hosts:
    """Clients that are as if they were on hosts of their own: they share no memory with the server, nor their files.

    Args:
        server: the weights'.
        folder: for a folder of each host.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._opened = contextlib.ExitStack()

    def client(self, host: str) -> Client:
        folder = self._folder / host
        folder.mkdir(exist_ok=True)
        relaying = Relaying(folder=str(folder), serve=functools.partial(courier.Server, host))
        return self._opened.enter_context(Client(self._server.address, lane="grpc", relaying=relaying))

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def hosts(server: Server, tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(server, tmp_path)
    yield hosts
    hosts.close()


@pytest.fixture
def learner(server: Server) -> Iterator[Client]:
    with server.localhost_client() as client:
        yield client


def content(version: int, size: int = 300_000) -> dict[str, Any]:
    return {"version": version, "fixed": np.full(size, 7.0), "w": np.random.default_rng(version).random(size)}


def check(view: View | None, version: int) -> None:
    assert view is not None
    assert (view.version, view.weights["version"]) == (version, version)
    np.testing.assert_array_equal(view.weights["w"], content(version)["w"])
    assert (view.weights["fixed"] == 7).all()


def test_versions_come_along_the_hosts(hosts: Hosts, learner: Client) -> None:
    publish = learner.publisher().publish
    subscribers = [hosts.client(host).subscriber() for host in "abc"]
    assert [subscriber.latest() for subscriber in subscribers] == [None] * 3
    for version in range(1, 6):
        publish(content(version))
        for subscriber in subscribers:
            check(subscriber.latest(newer_than=version - 1, timeout_s=WAIT_S), version)


def test_a_host_that_joins_later_has_the_latest(hosts: Hosts, learner: Client) -> None:
    publish = learner.publisher().publish
    publish(content(1))
    check(hosts.client("a").subscriber().require(timeout_s=WAIT_S), 1)
    check(hosts.client("b").subscriber().require(timeout_s=WAIT_S), 1)


def test_processes_of_a_host_share_its_relay(hosts: Hosts, learner: Client) -> None:
    publish = learner.publisher().publish
    publish(content(1))
    first, second = hosts.client("a"), hosts.client("a")
    views = [client.subscriber().require(timeout_s=WAIT_S) for client in (first, second)]
    for view in views:
        check(view, 1)
    # when the one that is the relay ends, then the other one takes over
    subscriber = second.subscriber()
    check(subscriber.require(timeout_s=WAIT_S), 1)
    first.close()
    publish(content(2))
    check(subscriber.latest(newer_than=1, timeout_s=WAIT_S), 2)
    check(views[1], 1)


def test_a_host_in_the_middle_ends(hosts: Hosts, learner: Client) -> None:
    publish = learner.publisher().publish
    first, middle, last = (hosts.client(host) for host in "abc")
    publish(content(1))
    subscribers = [client.subscriber() for client in (first, middle, last)]
    for subscriber in subscribers:
        check(subscriber.require(timeout_s=WAIT_S), 1)
    middle.close()
    publish(content(2))
    check(subscribers[2].latest(newer_than=1, timeout_s=WAIT_S), 2)
    check(subscribers[0].latest(newer_than=1, timeout_s=WAIT_S), 2)


def test_hosts_outlive_the_server(tmp_path: Path) -> None:
    # given two hosts with weights of a server that is killed
    port = quiet_port()
    relaying = [
        Relaying(folder=str(folder), serve=functools.partial(courier.Server, folder.name))
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    with contextlib.ExitStack() as opened:
        address = f"127.0.0.1:{port}"
        publisher = opened.enter_context(Client(address, lane="local")).publisher()
        subscribers = []
        with server_process(port):
            publisher.publish(content(1), version=1)
            for each in relaying:
                Path(each.folder).mkdir()
                client = opened.enter_context(Client(address, lane="grpc", relaying=each))
                subscribers.append(client.subscriber())
                check(subscribers[-1].require(timeout_s=WAIT_S), 1)
        # when another one takes its place, then they have what is published there
        with server_process(port):
            publisher.publish(content(2), version=2)
            for subscriber in subscribers:
                check(subscriber.latest(newer_than=1, timeout_s=WAIT_S), 2)


def test_a_host_whose_readers_hold_all_versions_skips_one(
    hosts: Hosts, learner: Client, caplog: pytest.LogCaptureFixture
) -> None:
    publish, subscriber = learner.publisher().publish, hosts.client("a").subscriber()
    held = []
    for version in range(1, 5):
        publish(content(version))
        held.append(subscriber.latest(newer_than=version - 1, timeout_s=WAIT_S))
    publish(content(5))
    until(lambda: "version 5 of the weights 'default' was skipped" in caplog.text, WAIT_S, "the relay to skip one")
    for place in range(4):
        check(held[place], place + 1)
    assert subscriber.latest(newer_than=4) is None
    held.clear()
    publish(content(9), version=9)
    check(subscriber.latest(newer_than=4, timeout_s=WAIT_S), 9)


def test_exact_versions_and_lag(hosts: Hosts, learner: Client) -> None:
    publish = learner.publisher().publish
    subscriber = hosts.client("a").subscriber()
    publish(content(1))
    first = subscriber.require(timeout_s=WAIT_S)
    for version in (2, 3):
        publish(content(version))
    until(lambda: first.lag == 2, WAIT_S, "the lag to be known")
    check(subscriber.exact(3, timeout_s=WAIT_S), 3)
    check(subscriber.exact(2, timeout_s=WAIT_S), 2)
    assert first.age_s < WAIT_S


def test_the_server_knows_who_reads_what(server: Server, hosts: Hosts, learner: Client) -> None:
    publisher, subscriber = learner.publisher(), learner.subscriber(max_lag=1)
    far = hosts.client("a").subscriber(max_age_s=0.0)
    publisher.publish("a", version=7)
    views = [reader.require(max_age_s=WAIT_S, timeout_s=WAIT_S) for reader in (subscriber, far)]
    for version in (8, 9):
        publisher.publish("b", version=version)
    until(lambda: len(server.reports()[0].readers) == 2, WAIT_S, "the other host's report")
    (report,) = server.reports()
    assert (report.name, report.version) == ("default", 9)
    here, there = report.readers
    assert [(one.version, one.lag) for one in report.readers] == [(7, 2)] * 2
    assert (here.host, here.too_old) == ("", "more than its max_lag=1")
    assert (there.host, there.too_old) == (platform.node(), "older than its max_age_s=0")
    first, *others = report.lines()
    assert first.startswith("default: version 9, ")
    assert "has version 7, 2 behind" in others[0]
    del subscriber, far, views
    until(lambda: not server.reports()[0].readers, WAIT_S, "the readers to be forgotten")


def test_only_a_block_of_the_version_that_comes_has_a_place_in_its_memory() -> None:
    # given a version of three blocks, of which one is there
    memory = memoryview(bytearray(5 << 20))
    head = Head(board=1, number=7, version=70, age_ns=0, buffers=1, total_bytes=len(memory))
    transit = Transit(head, memory, None)
    transit.add(b"digest")

    def place(board: int, number: int, position: int, size: int) -> memoryview | None:
        return transit.place(Block(board, number, position, b"", memoryview(bytes(size))))

    # then the others have their places there, and nothing else has
    for position, size in ((1, 2 << 20), (2, 1 << 20)):
        found = place(1, 7, position, size)
        assert found is not None
        found[:] = b"x" * size
        assert bytes(memory[position * (2 << 20) :][:size]) == b"x" * size
    assert place(1, 7, 0, 2 << 20) is None
    assert place(1, 7, 2, 2 << 20) is None
    assert place(1, 7, 3, 1 << 20) is None
    assert place(2, 7, 1, 2 << 20) is None
    assert place(1, 8, 1, 2 << 20) is None
    assert transit.place(Block(1, 7, 1, b"", None)) is None


def test_blocks_are_received_in_the_memory_that_readers_map(
    hosts: Hosts, learner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two hosts with a version of several blocks
    copied: list[int] = []

    def fill(target: memoryview, source: memoryview) -> None:
        copied.append(len(target))
        copying.fill(target, source)

    publish = learner.publisher().publish
    subscribers = [hosts.client(host).subscriber() for host in "ab"]
    publish(content(1, 2_000_000))
    for subscriber in subscribers:
        assert subscriber.require(timeout_s=WAIT_S).version == 1
    # when another one comes, then most of it is copied nowhere
    monkeypatch.setattr(relay, "fill", fill)
    publish({"w": np.random.default_rng(2).random(4_000_000)}, version=2)
    for subscriber in subscribers:
        view = subscriber.latest(newer_than=1, timeout_s=WAIT_S)
        assert view is not None
        np.testing.assert_array_equal(view.weights["w"], np.random.default_rng(2).random(4_000_000))
    assert sum(copied) < 32_000_000


def test_a_relay_that_cannot_be_started_can_be_later(server: Server, tmp_path: Path, learner: Client) -> None:
    # given a reader of another host, which cannot serve others just now
    asked = []

    def serve() -> courier.Server:
        asked.append(True)
        if len(asked) == 1:
            raise OSError("no port is free")
        return courier.Server("a")

    learner.publisher().publish(content(1))
    with Client(server.address, lane="grpc", relaying=Relaying(folder=str(tmp_path), serve=serve)) as client:
        with pytest.raises(OSError, match="no port is free"):
            client.subscriber().latest()
        # when it looks again, then it is the relay of its host
        check(client.subscriber().require(timeout_s=WAIT_S), 1)
        assert len(asked) == 2


def test_hosts_that_lost_one_another_for_a_moment_follow_no_circle(server: Server) -> None:
    # given a chain of three hosts
    upstream = {host: server._join("default", host, None).upstream for host in "abc"}
    assert upstream == {"a": None, "b": "a", "c": "b"}
    # when two of them take the one before for lost, which lives, and then the first has to join again
    for host, lost in (("c", "b"), ("b", "a"), ("a", None)):
        upstream[host] = server._join("default", host, lost).upstream
    # then each of them still gets from the server what it passes on
    for host in "abc":
        at, steps = upstream[host], 0
        while at is not None:
            at, steps = upstream[at], steps + 1
            assert steps < 3, upstream
