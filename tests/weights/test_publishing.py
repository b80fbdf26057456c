"""Publishing and reading in one process, on each of the lanes."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import pickle
import resource
import threading
import types
from typing import Any

import numpy as np
import pytest

from kourou import courier, shared_files
from kourou.errors import (
    CallCancelled,
    SerializationError,
    VersionError,
    VersionNotFound,
    WeightsError,
    WeightsOutdated,
)
from kourou.weights import Client, Server
from kourou.weights.board import Page
from kourou.weights.writing import BoardWriter
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_what_is_published_is_read(client: Client) -> None:
    subscriber = client.subscriber()
    assert subscriber.latest() is None
    assert client.publisher().publish({"w": np.arange(100_000.0)}, version=3)
    view = subscriber.latest()
    assert view is not None
    assert (view.version, view.lag, view.skipped) == (3, 0, 0)
    assert 0 <= view.age_s < WAIT_S
    np.testing.assert_array_equal(view.weights["w"], np.arange(100_000.0))
    assert subscriber.latest(newer_than=3) is None


def test_what_is_published_is_a_copy(client: Client) -> None:
    array = np.zeros(10_000)
    client.publisher().publish(array)
    array[:] = 1
    assert client.subscriber().require(timeout_s=WAIT_S).weights.sum() == 0


def test_names_are_independent(client: Client) -> None:
    client.publisher("actor").publish("a", version=7)
    client.publisher("critic").publish("c", version=1)
    assert client.subscriber("critic").require(timeout_s=WAIT_S).weights == "c"
    assert client.subscriber("actor").require(timeout_s=WAIT_S).weights == "a"
    assert client.subscriber().latest() is None


def test_versions_count_on_by_themselves(client: Client) -> None:
    publisher = client.publisher()
    assert publisher.last_version() is None
    publisher.publish("a")
    publisher.publish("b", version=10)
    publisher.publish("c")
    assert publisher.last_version() == 11
    assert client.subscriber().require(timeout_s=WAIT_S).version == 11


def test_a_version_is_above_those_before(client: Client) -> None:
    client.publisher().publish("a", version=5)
    for version in (5, 4, -1):
        with pytest.raises(VersionError, match=r"not above 5, which a publisher \(pid .*\) published"):
            client.publisher().publish("b", version=version)
    assert client.subscriber().require(timeout_s=WAIT_S).weights == "a"


@pytest.mark.parametrize("version", [1.5, float("nan"), "3", [1], 1 << 63, np.float32(2)])
def test_a_version_that_is_no_whole_number_is_refused_and_the_next_one_is_not(client: Client, version: Any) -> None:
    publisher = client.publisher()
    with pytest.raises(VersionError, match=r"a version is a whole number below 2\*\*63, .*; not "):
        publisher.publish("a", version=version)
    assert publisher.publish("b", version=np.int32(4))  # as steps of arrays are
    assert publisher.last_version() == 4


@pytest.mark.parametrize(
    "bounds",
    [{"max_lag": value} for value in (-1, 0.5, "3", float("inf"), 1 << 63)]
    + [{"max_age_s": value} for value in (-1, "3", [1], float("nan"), float("inf"), 1e300)],
)
def test_bounds_that_are_no_numbers_are_refused_before_anything_is_read(client: Client, bounds: dict[str, Any]) -> None:
    (name,) = bounds
    with pytest.raises(WeightsError, match=f"{name} is a .*, >= 0, or None for any.*; not "):
        client.subscriber(**bounds)
    with pytest.raises(WeightsError, match=name):
        client.subscriber().require(**bounds)


def test_what_cannot_be_pickled_is_named(client: Client) -> None:
    with pytest.raises(SerializationError, match=r"publish args\[0\]\['lock'\]"):
        client.publisher().publish({"w": 1, "lock": threading.Lock()})
    assert client.subscriber().latest() is None


def test_a_reader_waits_for_the_next_version(client: Client) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    assert subscriber.latest(timeout_s=0.01) is None
    timer = threading.Timer(0.05, publisher.publish, ["a"])
    timer.start()
    view = subscriber.latest(timeout_s=WAIT_S)
    timer.join()
    assert view is not None
    assert view.weights == "a"
    assert subscriber.latest(newer_than=view.version, timeout_s=0.01) is None


def test_a_reader_that_is_slow_skips_versions_and_is_told(client: Client) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    for number in range(3):
        publisher.publish(number)
    first = subscriber.require(timeout_s=WAIT_S)
    assert (first.weights, first.skipped) == (2, 0)
    for number in range(3, 8):
        assert publisher.publish(number)
    second = subscriber.latest(newer_than=first.version)
    assert second is not None
    assert (second.weights, second.skipped, first.weights) == (7, 4, 2)
    assert (first.lag, second.lag) == (5, 0)


def test_one_exact_version(client: Client) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    for version in (10, 20, 30):
        publisher.publish(f"of {version}", version=version)
    assert subscriber.exact(20).weights == "of 20"
    with pytest.raises(VersionNotFound, match="no version 15: the last is 30"):
        subscriber.exact(15, timeout_s=WAIT_S)
    with pytest.raises(VersionNotFound, match="no version 40"):
        subscriber.exact(40, timeout_s=0.01)
    publisher.publish("later", version=40)
    publisher.publish("later", version=50)
    with pytest.raises(VersionNotFound, match="no version 10"):
        subscriber.exact(10)


def test_a_version_that_is_being_written_is_still_to_come(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a publisher that has written a version, which nobody sees yet
    writing, go_on, publish = threading.Event(), threading.Event(), BoardWriter.publish

    def held(*args: Any) -> None:
        writing.set()
        assert go_on.wait(WAIT_S)
        publish(*args)

    monkeypatch.setattr(BoardWriter, "publish", held)
    subscriber = client.subscriber()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        published = pool.submit(client.publisher().publish, "late", 5)
        assert writing.wait(WAIT_S)
        # when somebody wants that very version, then it is not said to have been skipped
        with pytest.raises(VersionNotFound, match="the last is None"):
            subscriber.exact(5)
        # and it is waited for
        wanted = pool.submit(subscriber.exact, 5, timeout_s=WAIT_S)
        go_on.set()
        assert wanted.result().weights == "late"
        assert published.result()


def test_old_weights_are_an_error(client: Client) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    with pytest.raises(WeightsOutdated, match=r"'default' of .* were never published"):
        subscriber.require(max_lag=4)
    publisher.publish("a", version=12)
    view = subscriber.require(max_lag=4, max_age_s=WAIT_S)
    assert subscriber.require(max_lag=4) is view
    until(lambda: view.age_s > 0.3, WAIT_S, "the version to be old")
    with pytest.raises(WeightsOutdated, match=r"version 12 was published .* s ago, at .*max_age_s=0.3.*pid"):
        subscriber.require(max_age_s=0.3)
    strict = client.subscriber(max_age_s=0.3)
    for _ in range(2):
        with pytest.raises(WeightsOutdated):
            strict.latest()
    timer = threading.Timer(0.05, publisher.publish, ["b"])
    timer.start()
    assert subscriber.require(max_age_s=0.3, timeout_s=WAIT_S).weights == "b"
    timer.join()


@pytest.mark.parametrize("bounds", [{}, {"max_lag": 2}, {"max_age_s": WAIT_S}])
def test_what_is_required_is_the_latest_whatever_else_would_do(client: Client, bounds: dict[str, Any]) -> None:
    # Given a reader that keeps its view until it has the next
    publisher, subscriber = client.publisher(), client.subscriber(**bounds)
    publisher.publish(0)
    view = subscriber.require(timeout_s=WAIT_S)
    for number in (1, 2, 3):
        # When there is a newer version, Then it is that, else the same view
        assert publisher.publish(number)
        view = subscriber.require()
        assert view.weights == number
        assert subscriber.require() is view


def test_waits_end_when_the_server_says_so(server: Server, client: Client) -> None:
    subscriber = client.subscriber()
    assert subscriber.latest() is None
    timer = threading.Timer(0.05, server.cancel_waits)
    timer.start()
    with pytest.raises(CallCancelled):
        subscriber.latest(timeout_s=None)
    timer.join()
    assert subscriber.latest() is None


def test_a_client_can_be_pickled(client: Client) -> None:
    client.publisher().publish("a")
    with pickle.loads(pickle.dumps(client)) as other:
        assert other.subscriber().require(timeout_s=WAIT_S).weights == "a"


@pytest.mark.parametrize("lane", ["local"], indirect=True)
def test_views_hold_their_memory_and_nothing_else_does(client: Client, caplog) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    held = []
    for number in range(2):
        assert publisher.publish(np.full(10_000, number))
        held.append(subscriber.require(timeout_s=WAIT_S).weights)  # an array is enough, the view itself goes
    assert publisher.publish(np.full(10_000, 2))
    with caplog.at_level(logging.WARNING, "kourou.weights"):
        assert not publisher.publish(np.full(10_000, 3))
    assert "version 4 of the weights 'default' was skipped" in caplog.text
    latest = subscriber.require(timeout_s=WAIT_S)
    assert (latest.version, latest.lag) == (3, 1)
    with pytest.raises(WeightsOutdated, match=r"version 3, of .*, is 1 versions behind, and max_lag=0"):
        subscriber.require(max_lag=0)
    assert [array[0] for array in held] == [0, 1]
    del held[0]
    gc.collect()
    assert publisher.publish(np.full(10_000, 4), wait_s=WAIT_S)
    assert subscriber.require().weights[-1] == 4
    assert held[0].sum() == 10_000


@pytest.mark.parametrize("lane", ["local"], indirect=True)
def test_slots_grow_and_shrink(server: Server, client: Client) -> None:
    publisher, subscriber = client.publisher(), client.subscriber()
    for size in (10, 1_000_000, 0, 30_000, 2_000_000, 5, 5, 5):
        publisher.publish(np.full(size, size))
        got = subscriber.require(timeout_s=WAIT_S).weights
        assert (got == size).all()
        assert len(got) == size


@pytest.mark.parametrize("lane", ["local"], indirect=True)
def test_a_reader_that_can_open_no_more_files_says_so(client: Client) -> None:
    # given weights, and a reader whose process has all the files open that it may have
    client.publisher().publish("a")
    subscriber = client.subscriber()
    assert subscriber.latest() is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        # when it looks for the latest, then it is not told that there is none
        with pytest.raises(OSError, match="Too many open files"):
            subscriber.latest()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_forked_child_reads_and_publishes(client: Client, lane: str) -> None:
    if lane == "inproc":
        pytest.skip("the server stays behind in the parent")
    publisher, subscriber = client.publisher(), client.subscriber()
    publisher.publish(1)
    assert subscriber.require(timeout_s=WAIT_S).weights == 1
    pid = os.fork()
    if pid == 0:
        try:
            publisher.publish(2)
            os._exit(0 if subscriber.require().weights == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert subscriber.require().weights == 2


def test_a_server_that_was_not_started_is_stopped_as_well() -> None:
    # given one whose owner starts it later, and is interrupted before
    transport = courier.Server("weights")
    server = Server(transport=transport, start=False)
    # when it is stopped, then that is no error
    server.stop()
    assert not transport.has_started


def test_a_child_that_is_forked_during_a_publication_keeps_nothing_locked(
    client: Client, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lane != "local":
        pytest.skip("one way to publish is enough")
    # given a publisher that is at it in a thread
    monkeypatch.setattr("kourou.weights.writing._OTHERS_TAKE_S", 1.0)
    writing, go_on, publish = threading.Event(), threading.Event(), BoardWriter.publish

    def held(*args: Any) -> None:
        writing.set()
        assert go_on.wait(WAIT_S)
        publish(*args)

    publisher = client.publisher()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, monkeypatch.context() as patched:
        patched.setattr(BoardWriter, "publish", held)
        first = pool.submit(publisher.publish, 1)
        assert writing.wait(WAIT_S)
        # when another thread forks a child that stays
        ends, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(end)
            os.read(ends, 1)
            os._exit(0)
        go_on.set()
        assert first.result()
    # then as many versions are published as there are slots
    try:
        assert [publisher.publish(version) for version in range(2, 6)] == [True] * 4
    finally:
        os.close(end)
        os.close(ends)
        os.waitpid(pid, 0)


def test_what_a_publisher_had_not_published_when_it_was_killed_was_never_there(client: Client, lane: str) -> None:
    if lane != "local":
        pytest.skip("one way to publish is enough")
    # given a publisher that was killed when it had described a version, and nobody knew of it
    publisher, subscriber = client.publisher(), client.subscriber()
    publisher.publish("one", 1)
    pid = os.fork()
    if pid == 0:
        try:
            Page.publish = lambda *_: os._exit(0)  # type: ignore[method-assign]
            publisher.publish("two, of the dead", 2)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    # when somebody wants that version, then it is still to come
    with pytest.raises(VersionNotFound, match="the last is 1"):
        subscriber.exact(2)
    # and it is what another one published as such
    for version in (2, 3):
        publisher.publish(version, version)
        assert subscriber.exact(2).weights == 2


def test_who_is_interrupted_just_when_a_file_was_opened_leaves_it_closed(
    client: Client, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lane != "local":
        pytest.skip("one way to publish is enough")
    # given those who publish and read, and are interrupted each time that they have opened a file
    publisher, subscriber = client.publisher(), client.subscriber()
    publisher.publish("first")
    assert subscriber.require().weights == "first"

    def interrupted(_: int) -> os.stat_result:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shared_files, "os", types.SimpleNamespace(**{**vars(os), "fstat": interrupted}))
        for act in (lambda: publisher.publish("second"), lambda: subscriber.exact(1)):
            with pytest.raises(KeyboardInterrupt):
                act()
    # when they go on, then nothing is locked, and in the end no file is left open
    assert [publisher.publish(version) for version in range(2, 6)] == [True] * 4
