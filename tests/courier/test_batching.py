"""Batched handlers: every caller gets its own result, whatever the size of the batch and the kind of the values."""

import contextlib
import dataclasses
import datetime
import pickle
import threading
import types
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou import courier
from kourou.courier import Client, Server, batched_handler, new_token
from kourou.courier.serving import batching
from kourou.errors import CallCancelled, ConnectionLost, DeadlineExceeded
from optional import is_there, optional
from polling import until

torch = optional("torch")


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass(frozen=True)
class Step:
    observation: object
    label: object


@contextlib.contextmanager
def held(handler):
    """The handler is busy with another call, so that those that are made meanwhile wait for the same batch."""
    function, entered, release = handler._function, threading.Event(), threading.Event()

    def block(*args, **kwargs):
        entered.set()
        release.wait(20)
        return function(*args, **kwargs)

    handler._function = block
    future = handler.submit(0)
    assert entered.wait(20)
    handler._function = function
    yield
    release.set()
    future.exception(20)


def call_all(handler, argument_lists):
    futures = [handler.submit(*arguments) for arguments in argument_lists]
    return [future.result(20) for future in futures]


VALUES = {
    "array": lambda i: np.full((2, 3), i, np.float32),
    "empty array": lambda i: np.zeros((0, i * 0)),
    "scalar": np.int16,
    "int": lambda i: i,
    "float": lambda i: i / 2,
    "bool": lambda i: i % 2 == 0,
    "bytes": lambda i: b"x" * i + b"\0",
    "str": lambda i: f"s{i}",
    "none": lambda i: None,
    "list": lambda i: [i] * i,
    "nested": lambda i: {"a": (i, [i]), "b": Point(np.arange(3) + i, f"{i}")},
    "dataclass": lambda i: Step(np.ones(2) * i, ("t", i)),
}


if is_there("torch"):
    VALUES["tensor"] = lambda i: torch.full((2,), float(i))


def same(left, right):
    if hasattr(left, "dtype"):
        return (np.asarray(left) == np.asarray(right)).all() and left.dtype == right.dtype
    if isinstance(left, tuple):
        return type(left) is type(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if dataclasses.is_dataclass(left):
        return type(left) is type(right) and same(vars(left), vars(right))
    return left == right


@settings(max_examples=examples(150))
@given(
    batch_size=st.integers(1, 17),
    calls=st.integers(1, 40),
    kind=st.sampled_from(sorted(VALUES)),
    parallel=st.integers(1, 3),
    pad=st.booleans(),
)
def test_every_caller_gets_its_own_result(batch_size, calls, kind, parallel, pad):
    sizes = []

    def echo(value, index):
        sizes.append(len(index))
        return value, index

    handler = batched_handler(batch_size, parallel, 0.01, pad_batch=pad)(echo)
    try:
        results = call_all(handler, [(VALUES[kind](i), i) for i in range(calls)])
    finally:
        handler.close()
    for i, (value, index) in enumerate(results):
        assert index == i
        assert same(VALUES[kind](i), value)
    assert max(sizes) <= batch_size
    assert not pad or set(sizes) == {batch_size}


@pytest.fixture
def wrap():
    handlers = []

    def make(function, *args, **kwargs):
        handlers.append(batched_handler(*args, **kwargs)(function))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.close()


def test_a_full_batch_does_not_wait(wrap):
    handler = wrap(lambda x: x * 2, 4, timeout_s=datetime.timedelta(days=30))
    assert call_all(handler, [(np.array([i]),) for i in range(4)]) == [0, 2, 4, 6]


def test_an_error_reaches_every_caller_of_its_batch(wrap):
    def fail(x):
        raise KeyError("no")

    handler = wrap(fail, 3, timeout_s=30)
    with held(handler):
        futures = [handler.submit(i) for i in range(3)]
    errors = [future.exception(20) for future in futures]
    assert [type(error) for error in errors] == [KeyError] * 3
    assert len({id(error) for error in errors}) == 3


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (lambda x: [1], "1 entries for a batch of 2"),
        (lambda x: {"a": np.zeros(1)}, r"\['a'\] has 1 entries"),
        (lambda x: 7, "is a int"),
        (lambda x: np.float32(1), "is a float32"),
    ],
    ids=["short list", "short array", "number", "scalar"],
)
def test_a_result_that_cannot_be_divided_is_explained(wrap, results, message):
    handler = wrap(results, 2, timeout_s=30)
    with held(handler):
        futures = [handler.submit(1), handler.submit(2)]
    with pytest.raises(ValueError, match=message):
        futures[1].result(20)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros(2), np.zeros(3), "different shapes"),
        ({"a": 1}, {"b": 1}, "different keys"),
        ((1, 2), (1,), "different lengths"),
        ("a", 1, "different kinds"),
    ],
    ids=["shapes", "keys", "lengths", "kinds"],
)
def test_arguments_that_do_not_fit_together_are_explained(wrap, first, second, message):
    handler = wrap(lambda x: x, 2, timeout_s=30)
    with held(handler):
        futures = [handler.submit(first), handler.submit(second)]
    with pytest.raises(ValueError, match=message):
        futures[0].result(20)


def test_calls_with_other_arguments_are_another_batch(wrap):
    sizes = []

    def add(x, y=0):
        sizes.append(len(x))
        return x + y

    handler = wrap(add, 4, timeout_s=30)
    with held(handler):
        futures = [handler.submit(1), handler.submit(2), handler.submit(3, 4), handler.submit(5, y=6)]
    assert [future.result(20) for future in futures] == [1, 2, 7, 11]
    assert sizes == [1, 2, 1, 1]


def test_a_batch_that_is_not_full_runs_when_nobody_else_is_about_to_call(wrap):
    # given a handler for more callers than there are, with all the time in the world
    sizes = []

    def double(x):
        sizes.append(len(x))
        return x * 2

    handler = wrap(double, 100, timeout_s=datetime.timedelta(days=30))
    # when one calls, and then several at once, again and again
    assert handler.submit(1).result(20) == 2
    with held(handler):
        futures = [handler.submit(number) for number in range(7)]
    # then none of them waits for those who will not come
    assert [future.result(20) for future in futures] == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [1, 1, 7]


def test_callers_who_ask_again_are_waited_for(wrap, monkeypatch):
    # given a handler that takes half a minute, and four callers who ask again as soon as they are answered
    sizes, now = [], [0.0]
    monkeypatch.setattr(batching, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def slow(x):
        sizes.append(len(x))
        now[0] += 30
        return x

    handler = wrap(slow, 8, timeout_s=30)

    def ask():
        for number in range(6):
            assert handler(number) == number

    threads = [threading.Thread(target=ask) for _ in range(4)]
    with held(handler):
        for thread in threads:
            thread.start()
        until(lambda: len(handler._batches._waiting) == 4, 20, "all have called")
    for thread in threads:
        thread.join(20)
    # then they are answered together
    assert sizes == [1, *[4] * 6]


def test_callers_who_ask_again_at_once_are_not_counted_twice(wrap):
    # given callers who ask again while the others of their batch are being answered
    handler = wrap(lambda x: x, 8, timeout_s=3600)
    left, expected, done = [3 * 20], [], threading.Event()

    def again(_future):
        expected.append(handler._batches._expected)
        left[0] -= 1
        if left[0] >= 3:
            handler.submit(0).add_done_callback(again)
        elif not left[0]:
            done.set()

    with held(handler):
        for _ in range(3):
            handler.submit(0).add_done_callback(again)
    assert done.wait(20)
    # then the next batch waits for three of them, and not for some that are not there
    assert set(expected[3:]) == {3}


def test_a_call_that_was_given_up_takes_part_in_no_batch():
    seen = []

    def see(x):
        seen.extend(x)
        return x

    handler = batched_handler(8, timeout_s=30)(see)
    with Server(token="t", thread_pool_size=1) as server, Client(server.address, token="t") as client:
        server.bind("act", handler)
        with held(handler):
            futures = [client.futures.act(number) for number in (1, 2, 3)]
            until(lambda: len(handler._batches._waiting) == 3, 20, "all wait")
            futures[1].cancel()
            until(lambda: server.metrics()["act"].in_flight == 2, 20, "one is given up")
        assert [futures[0].result(20), futures[2].result(20)] == [1, 3]
        assert sorted(seen) == [0, 1, 3]


def test_a_call_that_comes_when_its_batches_were_just_closed_is_cancelled():
    # given a call that has got hold of a server's batches, which then are closed
    batches = batching._Batches(lambda calls: lambda: None, 2, 1, 60.0, "late")
    batches.close()
    call = batching._Call((), {})
    # when it is put there, then nobody waits for it
    batches.put(call)
    assert call.future.cancelled()
    assert batches.report() == []


def test_a_coroutine_function_is_refused():
    async def act(x):
        return x

    with pytest.raises(TypeError, match=r"act is async, and a batch runs in a thread of its own: write def"):
        batched_handler(4)(act)


def test_a_decorator_without_its_size_is_explained():
    with pytest.raises(TypeError, match=r"write @batched_handler\(batch_size=…\), over "):
        batched_handler(len)  # type: ignore[arg-type]  # the mistake


def test_no_more_batches_run_at_a_time_than_allowed(wrap):
    running = []
    most = []
    gate = threading.Event()

    def work(x):
        running.append(1)
        most.append(len(running))
        gate.wait(20)
        running.pop()
        return x

    handler = wrap(work, 1, max_parallelism=2)
    futures = [handler.submit(i) for i in range(6)]
    until(lambda: len(running) == 2, 20, "two batches run")
    gate.set()
    assert [future.result(20) for future in futures] == list(range(6))
    assert max(most) == 2


RELEASE = threading.Event()


class Model:
    def __init__(self):
        self.wrapped = batched_handler(batch_size=3, timeout_s=30)(self.double)

    def double(self, x):
        return x * 2

    @batched_handler(batch_size=2, timeout_s=0.001)
    def negate(self, x):
        return -x

    @batched_handler(batch_size=100, timeout_s=datetime.timedelta(days=30))
    def never(self, x):
        RELEASE.wait(20)
        return x


def test_it_decorates_methods_and_survives_pickling():
    one, other = Model(), Model()
    assert one.negate is one.negate
    assert one.negate is not other.negate
    copy = pickle.loads(pickle.dumps(one)).negate
    try:
        assert one.negate(1) == -1
        assert copy(2) == -2
    finally:
        one.negate.close()
        copy.close()


@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
def test_a_server_parks_no_threads_for_a_batch(lane):
    model = Model()
    with Server(token=new_token(), thread_pool_size=1) as server:
        server.bind_object(model)
        client = Client(server.address, token=server.token, lane=lane)
        futures = [client.futures.wrapped(np.arange(4) + i) for i in range(3)]
        assert [future.result(20).tolist() for future in futures] == [[2 * (i + j) for j in range(4)] for i in range(3)]
        assert client.negate(3) == -3
        RELEASE.clear()
        parked = [client.futures.never(1) for _ in range(3)]
        assert client.negate(4) == -4
        server.stop(grace_s=0.01)
        assert all(isinstance(future.exception(20), CallCancelled | ConnectionLost) for future in parked)
        RELEASE.set()
        courier.close(client)


@pytest.mark.parametrize("kind", [TimeoutError, DeadlineExceeded])
def test_an_error_that_tells_of_a_time_out_is_the_functions_own(kind):
    # given a function that asks somebody who does not answer in time
    @batched_handler(batch_size=1)
    def act(observation):
        raise kind("nobody answered")

    # when a handler of the same server calls it, then it hears of that
    with Server(token="t") as server, Client(server.address, token="t", timeout_s=20) as client:
        server.bind("ask", lambda: act(1.0))
        with pytest.raises(TimeoutError, match="nobody answered"):
            client.ask()
        act.close()
