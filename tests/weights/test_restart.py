"""A server that ends, and another one in its place; publishers that come and go."""

from __future__ import annotations

import concurrent.futures
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou.errors import WeightsError
from kourou.weights import Client, Server, saved_versions
from kourou.weights.writing import BoardWriter
from polling import WAIT_S, until
from quiet_ports import quiet_port

pytestmark = pytest.mark.usefixtures("no_leaks")

SERVE = "import sys; from kourou.weights import Server; Server(int(sys.argv[1])); print(flush=True); sys.stdin.read()"


@contextmanager
def server_process(port: int) -> Iterator[subprocess.Popen[str]]:
    """A server of its own process, until it is killed."""
    command = [sys.executable, "-c", SERVE, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_publishers_and_readers_outlive_the_server(lane: str) -> None:
    if lane == "inproc":
        pytest.skip("it ends with its server")
    # given a reader with a view of what a server had that was killed
    port = quiet_port()
    with Client(f"127.0.0.1:{port}", lane=lane) as client:
        publisher, subscriber = client.publisher(), client.subscriber()
        with server_process(port):
            publisher.publish(np.full(10_000, 1), version=1)
            publisher.publish(np.full(10_000, 2), version=2)
            view = subscriber.require(timeout_s=WAIT_S)
        # when another one takes its place
        with server_process(port):
            # then the next version is published there, and the reader finds it
            assert publisher.publish(np.full(10_000, 3), version=3)
            newer = subscriber.latest(newer_than=view.version, timeout_s=WAIT_S)
            assert newer is not None
            assert (newer.version, newer.weights.sum()) == (3, 30_000)
            # and what it had is still there, and known to be older
            assert view.weights.sum() == 20_000
            assert (view.lag, newer.lag) == (1, 0)


def test_versions_do_not_go_back_with_the_server(caplog) -> None:
    # given a reader that has version 10
    port = quiet_port()
    with Client(f"127.0.0.1:{port}", lane="local") as client:
        subscriber = client.subscriber()
        with server_process(port):
            client.publisher().publish("ten", version=10)
            view = subscriber.require(timeout_s=WAIT_S)
        # when a new server has but version 9, from a publisher that has lost its memory, too
        with server_process(port):
            client.publisher().publish("nine", version=9)
            # then the reader does not go back, and says so once
            with caplog.at_level(logging.WARNING, "kourou.weights"):
                until(lambda: subscriber.latest() is None, WAIT_S, "the reader to find the new server")
                assert subscriber.latest(timeout_s=0.3) is None
            assert [record.getMessage().count("now have version 9") for record in caplog.records] == [1]
            client.publisher().publish("eleven", version=11)
            newer = subscriber.latest(newer_than=view.version, timeout_s=WAIT_S)
            assert newer is not None
            assert newer.weights == "eleven"


def test_versions_that_are_left_out_count_on_over_servers() -> None:
    # given a publisher that counts by itself, and a reader of what it published
    port = quiet_port()
    with Client(f"127.0.0.1:{port}", lane="local") as client:
        publisher, subscriber = client.publisher(), client.subscriber()
        with server_process(port):
            publisher.publish("one")
            publisher.publish("two")
            assert subscriber.require(timeout_s=WAIT_S).version == 2
        # when another server takes its place, then the next version is newer than what the reader has
        with server_process(port):
            publisher.publish("three")
            view = subscriber.latest(newer_than=2, timeout_s=WAIT_S)
            assert view is not None
            assert (view.version, view.weights) == (3, "three")


def test_a_new_publisher_counts_on_from_the_last(server: Server) -> None:
    with server.localhost_client() as first:
        first.publisher().publish("a", version=41)
    with server.localhost_client() as second:
        publisher, subscriber = second.publisher(), second.subscriber()
        assert publisher.last_version() == 41
        assert subscriber.require(timeout_s=WAIT_S).weights == "a"
        publisher.publish("b")
        assert subscriber.require().version == 42


def test_the_last_version_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with Server(checkpoint=folder) as server, server.localhost_client() as client:
        for version in (4, 5):
            client.publisher("actor/a").publish({"w": np.full(10_000, version)}, version=version)
        client.publisher("critic").publish("c")
        assert not folder.exists()
    with Server(checkpoint=folder) as server, server.localhost_client() as client:
        view = client.subscriber("actor/a").require(timeout_s=WAIT_S)
        assert (view.version, view.weights["w"].sum()) == (5, 50_000)
        assert client.subscriber("critic").require().weights == "c"
        publisher = client.publisher("actor/a")
        assert publisher.last_version() == 5
        assert publisher.publish("next")
    with Server(checkpoint=folder) as server, server.localhost_client() as client:
        assert client.subscriber("actor/a").require(timeout_s=WAIT_S).version == 6
    whole = (folder / "critic.weights").read_bytes()
    (folder / "critic.weights").write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=r"critic\.weights .* there are \d+ of its \d+ bytes"):
        Server(checkpoint=folder)
    (folder / "critic.weights").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"critic\.weights has no weights that can be read"):
        Server(checkpoint=folder)


def test_a_version_that_cannot_be_kept_costs_no_other_one(tmp_path: Path) -> None:
    names = ["a", "b", "c" * 300]
    server = Server(checkpoint=tmp_path)
    with server.localhost_client() as client:
        for name in names:
            client.publisher(name).publish(name)
    in_the_way = tmp_path / "b.weights"
    in_the_way.mkdir()
    with pytest.raises(OSError, match=r"b\.weights"):
        server.stop()
    in_the_way.rmdir()
    assert not list(tmp_path.glob("*.part"))
    with Server(checkpoint=tmp_path) as server, server.localhost_client() as client:
        for name in (names[0], names[2]):
            assert client.subscriber(name).require(timeout_s=WAIT_S).weights == name


def test_threads_that_publish_at_once_count_on_over_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a publisher that counts by itself, whose server was replaced
    port = quiet_port()
    with Client(f"127.0.0.1:{port}", lane="local") as client:
        publisher = client.publisher()
        with server_process(port):
            publisher.publish("one")
            publisher.publish("two")
        with server_process(port), concurrent.futures.ThreadPoolExecutor(2) as pool:
            # when two threads find that out before either has published there
            both, write = threading.Barrier(2), BoardWriter.write

            def side_by_side(self: BoardWriter, *args: Any, **options: Any) -> int | None:
                if not both.broken:
                    both.wait(WAIT_S)
                try:
                    return write(self, *args, **options)
                except FileNotFoundError:
                    if both.wait(WAIT_S) == 0:
                        both.abort()
                    raise

            monkeypatch.setattr(BoardWriter, "write", side_by_side)
            published = [pool.submit(publisher.publish, text) for text in ("three", "four")]
            # then each version is above those before
            assert [each.result() for each in published] == [True] * 2
            assert publisher.last_version() == 4


def test_what_is_published_while_the_last_versions_are_saved_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a server that stops, and somebody who publishes when the last version has just been written to its file
    port, save, published = quiet_port(), saved_versions.save, []

    def late(*args: Any) -> None:
        save(*args)
        thread.start()
        thread.join(0.5)

    with Client(f"127.0.0.1:{port}", lane="local") as client:
        publisher = client.publisher()
        thread = threading.Thread(target=lambda: published.append(publisher.publish("two", 2)))
        with Server(port, checkpoint=tmp_path):
            publisher.publish("one", 1)
            monkeypatch.setattr("kourou.weights.server.save", late)
        monkeypatch.undo()
        # when another server begins with that file, then it has what was published
        with Server(port, checkpoint=tmp_path):
            thread.join(WAIT_S)
            assert published == [True]
            assert client.subscriber().exact(2, timeout_s=WAIT_S).weights == "two"
