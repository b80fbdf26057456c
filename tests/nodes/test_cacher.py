"""A node that answers in place of another one: how often it calls that one, and what its readers get."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

import kourou as lp
from kourou.courier import list_methods
from kourou.errors import CallCancelled, GraphError, PlanError, RemoteError, UnknownMethod
from kourou.nodes.cacher import MAX_CALLS, Cache
from optional import pytest

REFRESH_S, STALE_S = 1.0, 3.0
LONG_MS = 600_000.0  # nothing is fetched anew in a test's time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """A client whose replies come when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.replies: list[Future[Any]] = []
        self.futures = self

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Future[Any]:
            self.calls.append((method, args, kwargs))
            self.replies.append(Future())
            return self.replies[-1]

        return call


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.upstream = Upstream()
        self.cache = Cache(self.upstream, REFRESH_S, STALE_S, clock=self.clock)  # type: ignore[arg-type]

    def read(self, *args: Any, **kwargs: Any) -> Any:
        return self.cache.read("get", args, kwargs)

    def filled(self, value: Any) -> Rig:
        reader = self.read()
        self.upstream.replies[-1].set_result(value)
        assert finished(reader) == value
        return self


def finished(reader: Any) -> Any:
    """What a reader that had to wait got; the answer is there, so this does not block."""
    assert inspect.iscoroutine(reader), f"did not wait, but got {reader!r}"
    return asyncio.run(reader)


def test_readers_of_the_same_call_share_one_call_of_the_target() -> None:
    # Given several readers of what nobody has read before.
    rig = Rig()
    readers = [rig.read(1, name="x") for _ in range(5)]
    assert rig.upstream.calls == [("get", (1,), {"name": "x"})]
    # When the answer comes, then all of them have it, and so does the next one, without waiting.
    rig.upstream.replies[0].set_result("answer")
    assert [finished(reader) for reader in readers] == ["answer"] * 5
    assert rig.read(1, name="x") == "answer"
    assert len(rig.upstream.calls) == 1


def test_calls_differ_by_method_and_by_arguments() -> None:
    rig = Rig()
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((1,), {}),
        ((2,), {}),
        ((), {"a": 1}),
        ((np.zeros(3),), {}),
        ((np.ones(3),), {}),
        ((np.ones((3, 1)),), {}),
        (({"nested": [1, (2, "x")]},), {}),
    ]
    for args, kwargs in calls * 2:
        rig.read(*args, **kwargs).close()
    rig.cache.read("other", (), {}).close()
    assert len(rig.upstream.calls) == len(calls) + 1
    rig.read(b=1, a=2).close()
    rig.read(a=2, b=1).close()  # the order of names means nothing
    assert len(rig.upstream.calls) == len(calls) + 2


def test_within_the_interval_nothing_is_fetched() -> None:
    rig = Rig().filled("old")
    rig.clock.now += REFRESH_S - 0.01
    assert rig.read() == "old"
    assert len(rig.upstream.calls) == 1


def test_after_the_interval_one_reader_has_it_fetched_and_nobody_waits() -> None:
    # Given a value older than the interval.
    rig = Rig().filled("old")
    rig.clock.now += REFRESH_S
    # When many read, then one call is made, and they get what is there.
    assert [rig.read() for _ in range(4)] == ["old"] * 4
    assert len(rig.upstream.calls) == 2
    # When the answer has come, then it is what the next ones get, for another interval.
    rig.upstream.replies[1].set_result("new")
    rig.clock.now += REFRESH_S - 0.01
    assert rig.read() == "new"
    assert len(rig.upstream.calls) == 2


def test_a_stale_value_is_not_returned() -> None:
    # Given a value at its last moment, whose successor is under way.
    rig = Rig().filled("old")
    rig.clock.now += STALE_S
    assert rig.read() == "old"
    # When that moment has passed, then readers wait for the successor.
    rig.clock.now += 0.01
    reader = rig.read()
    assert len(rig.upstream.calls) == 2
    rig.upstream.replies[1].set_result("new")
    assert finished(reader) == "new"


def test_nobody_reads_and_nothing_is_fetched() -> None:
    rig = Rig().filled("old")
    rig.clock.now += 100 * STALE_S
    assert len(rig.upstream.calls) == 1


def test_an_error_reaches_those_who_have_nothing_else_to_get() -> None:
    # Given a value, and an attempt to fetch it anew that fails.
    rig = Rig().filled("old")
    rig.clock.now += REFRESH_S
    rig.read()
    rig.upstream.replies[1].set_exception(KeyError("gone"))
    # Then readers get the value for as long as it lives, and one attempt is made in an interval.
    assert rig.read() == "old"
    assert len(rig.upstream.calls) == 2
    # When it is stale and the next attempt fails as well, then they get the error, without further attempts.
    rig.clock.now += STALE_S
    reader = rig.read()
    rig.upstream.replies[2].set_exception(KeyError("still gone"))
    with pytest.raises(KeyError, match="still gone"):
        finished(reader)
    for _ in range(3):
        with pytest.raises(KeyError, match="still gone"):
            rig.read()
    assert len(rig.upstream.calls) == 3
    # When the interval is over and the target well, then all is well.
    rig.clock.now += REFRESH_S
    reader = rig.read()
    rig.upstream.replies[3].set_result("new")
    assert finished(reader) == "new"


def test_what_was_read_least_recently_is_forgotten_first() -> None:
    # Given as many calls as are remembered, of which the first was read again.
    rig = Rig()
    for number in range(MAX_CALLS):
        reader = rig.read(number)
        rig.upstream.replies[-1].set_result(number)
        assert finished(reader) == number
    assert rig.read(0) == 0
    # When one more comes, then the second one is gone and the first one is not.
    rig.read("one more").close()
    assert rig.read(0) == 0
    rig.read(1).close()
    assert len(rig.upstream.calls) == MAX_CALLS + 2


def test_a_cancelled_call_is_an_error_and_no_hang() -> None:
    rig = Rig()
    reader = rig.read()
    rig.upstream.replies[0].cancel()
    with pytest.raises(CallCancelled):
        finished(reader)


@pytest.mark.parametrize(("refresh", "stale"), [(-1, 5), (6, 5), (float("nan"), 5)])
def test_times_that_make_no_sense_are_an_error(refresh: float, stale: float) -> None:
    program = lp.Program("times")
    handle = program.add_node(lp.CourierNode(Source), label="source")
    with pytest.raises(GraphError, match="refresh_interval_ms"):
        lp.CacherNode(handle, refresh, stale)


def test_it_takes_a_handle_of_a_node_that_serves() -> None:
    with pytest.raises(GraphError, match="handle"):
        lp.CacherNode(Source(), 1, 2)  # type: ignore[arg-type]
    program = lp.Program("no server")
    silent = program.add_node(lp.PyNode(print), label="silent")
    program.add_node(lp.CacherNode(silent, 1, 2), label="cacher")
    with pytest.raises(PlanError, match=r"cacher/0 args\[0\] is a handle of silent/0, a PyNode, which serves no"):
        lp.compile_program(program)


# -- as a node --------------------------------------------------------------------------------------------------------


class Source:
    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def variables(self, names: list[str], *, scale: float = 1.0) -> Any:
        self._count("variables")
        return {name: np.full(4, scale) for name in names}

    def fail(self) -> None:
        self._count("fail")
        raise FileNotFoundError(2, "no such file", "x")

    def stream(self) -> Any:
        yield 1

    def __call__(self, number: int) -> int:
        return number + 1

    def counts(self) -> dict[str, int]:
        return self._counts

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1


def read(cacher: Any, source: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cacher.variables(["a", "b"], scale=2.0), range(40)))
    assert all(answer["b"].tolist() == [2.0] * 4 for answer in answers)
    assert cacher.variables(["a"])["a"].tolist() == [1.0] * 4
    assert cacher(41) == 42
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as caught:
            cacher.fail()
        assert isinstance(caught.value, RemoteError)
        assert caught.value.errno == 2
    with pytest.raises(UnknownMethod, match="variables"):
        cacher.no_such_method()
    with pytest.raises(TypeError, match="stream"):
        cacher.stream()
    assert "variables" in list_methods(cacher)
    assert source.counts() == {"variables": 2, "fail": 1}
    lp.stop()


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_many_readers_cause_one_call(launch_type: str) -> None:
    program = lp.Program("cacher")
    source = program.add_node(lp.CourierNode(Source), label="source")
    cacher = program.add_node(lp.CacherNode(source, LONG_MS, LONG_MS), label="cacher")
    program.add_node(lp.PyNode(read, cacher, source), label="reader")
    lp.launch(program, launch_type).wait()


@pytest.mark.usefixtures("no_leaks")
def test_readers_that_wait_occupy_no_threads() -> None:
    # Given more readers than the cacher has threads, of a call that takes until the test says so.
    go = threading.Event()
    program = lp.Program("slow")
    slow = program.add_node(lp.CourierNode[Any](lambda: Slow(go)), label="slow")
    node = lp.CacherNode(slow, LONG_MS, LONG_MS, courier_kwargs={"thread_pool_size": 2})
    cacher = program.add_node(node, label="cacher")
    with lp.launch(program, "local_mt"), cacher.dereference() as client:
        try:
            waiting = [client.futures.slow() for _ in range(20)]
            # When another call comes, then it is answered, while none of the readers is.
            assert client.quick() == "quick"
            assert not any(reply.done() for reply in waiting)
        finally:
            go.set()
        assert [reply.result() for reply in waiting] == ["slow"] * 20


class Slow:
    def __init__(self, go: threading.Event) -> None:
        self._go = go

    def slow(self) -> str:
        self._go.wait()
        return "slow"

    def quick(self) -> str:
        return "quick"
