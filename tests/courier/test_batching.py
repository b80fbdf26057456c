"""Batched handlers: every caller gets its own result, whatever the size of the batch and the kind of the values."""

import dataclasses
import datetime
import pickle
import threading
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kourou import courier
from kourou.courier import Client, Server, batched_handler, new_token
from kourou.errors import CallCancelled, ConnectionLost
from kourou.testing.contracts import eventually
from optional import is_there, optional

torch = optional("torch")


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass(frozen=True)
class Step:
    observation: object
    label: object


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


@settings(max_examples=150, deadline=None)
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
    handler = wrap(lambda x: x * 2, 4, timeout=datetime.timedelta(days=30))
    assert call_all(handler, [(np.array([i]),) for i in range(4)]) == [0, 2, 4, 6]


def test_an_error_reaches_every_caller_of_its_batch(wrap):
    def fail(x):
        raise KeyError("no")

    handler = wrap(fail, 3, timeout=30)
    errors = [future.exception(20) for future in [handler.submit(i) for i in range(3)]]
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
    handler = wrap(results, 2, timeout=30)
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
    handler = wrap(lambda x: x, 2, timeout=30)
    futures = [handler.submit(first), handler.submit(second)]
    with pytest.raises(ValueError, match=message):
        futures[0].result(20)


def test_another_number_of_arguments_fails_for_that_caller_only(wrap):
    handler = wrap(lambda x: x, 2, timeout=30)
    first = handler.submit(1)
    with pytest.raises(TypeError, match="same arguments"):
        handler.submit(1, 2)
    handler.submit(3)
    assert first.result(20) == 1


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
    eventually(lambda: len(running) == 2, "two batches run")
    gate.set()
    assert [future.result(20) for future in futures] == list(range(6))
    assert max(most) == 2


class Model:
    def __init__(self):
        self.wrapped = batched_handler(batch_size=3, timeout=30)(self.double)

    def double(self, x):
        return x * 2

    @batched_handler(batch_size=2, timeout=0.001)
    def negate(self, x):
        return -x

    @batched_handler(batch_size=100, timeout=datetime.timedelta(days=30))
    def never(self, x):
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
        parked = client.futures.never(1)
        assert client.negate(4) == -4
        server.stop(grace_s=0.01)
        assert isinstance(parked.exception(20), CallCancelled | ConnectionLost)
        courier.close(client)
