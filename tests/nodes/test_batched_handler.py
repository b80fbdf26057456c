"""Batched handlers as methods of a node, called from other nodes and from the launcher."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st

import kourou as lp
from fuzzing import examples
from kourou import courier
from optional import pytest

SIZES = range(1, 18)


class Model:
    """One batched method for each size of a batch; each says how large its batches really were."""

    def __init__(self):
        self._seen: dict[int, list[int]] = {size: [] for size in SIZES}
        for size in SIZES:
            setattr(self, f"double_{size}", lp.batched_handler(size, timeout_s=0.02)(self._doubler(size)))

    def _doubler(self, size):
        def double(values, names):
            self._seen[size].append(len(names))
            if any(name == "bad" for name in names):
                raise ValueError("a bad name is in the batch")
            return {"twice": values * 2, "name": names}

        return double

    def seen(self, size):
        return self._seen[size]


def actor(model, count):
    """A node of its own that calls many at a time and checks each answer."""
    for size in SIZES:
        futures = [getattr(model.futures, f"double_{size}")(np.full(3, i), f"n{i}") for i in range(count)]
        for i, future in enumerate(futures):
            answer = future.result(20)
            assert answer["name"] == f"n{i}"
            np.testing.assert_array_equal(answer["twice"], np.full(3, 2 * i))


@pytest.fixture(scope="module", params=["local_mt", "local_mp"])
def model(request, tmp_path_factory):
    program = lp.Program("batches")
    handle = program.add_node(lp.CourierNode(Model, courier_kwargs={"thread_pool_size": 2}), label="model")
    folder = tmp_path_factory.mktemp("runs")
    with lp.launch(program, request.param, run_dir=folder):
        client = handle.dereference()
        yield courier.with_options(client, timeout_s=20)
        courier.close(client)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.sampled_from(SIZES), numbers=st.lists(st.integers(-1000, 1000), min_size=1, max_size=40))
def test_each_caller_gets_its_own_answer(model, size, numbers):
    # When as many calls as there are numbers are made at once
    double = getattr(model.futures, f"double_{size}")
    futures = [double(np.array([number]), f"{number}·{i}") for i, number in enumerate(numbers)]
    # Then each gets what it would have got alone, and no batch was too large
    answers = [future.result(20) for future in futures]
    assert [int(answer["twice"][0]) for answer in answers] == [2 * number for number in numbers]
    assert [answer["name"] for answer in answers] == [f"{number}·{i}" for i, number in enumerate(numbers)]
    assert max(model.seen(size)) <= size


def test_an_error_reaches_every_caller_of_its_batch(model):
    # When some of many calls at once are bad
    futures = [model.futures.double_3(np.ones(1), name) for name in ("bad", "good", "good") * 5]
    errors = [future.exception(20) for future in futures]
    # Then those fail, and so do others of their batches at most
    assert all(isinstance(error, ValueError) for error in errors[::3])
    assert all(error is None or "a bad name" in str(error) for error in errors)
    assert model.double_1(np.ones(1), "good")["name"] == "good"


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_nodes_share_batches_and_a_stop_releases_parked_callers(launch_type):
    # Given three nodes that call one model
    program = lp.Program("actors")
    model = program.add_node(lp.CourierNode(Model), label="model")
    with program.group("actor"):
        for _ in range(3):
            program.add_node(lp.PyNode(actor, model, 9))
    with lp.launch(program, launch_type) as run:
        # When all have got their answers
        run.wait(["actor"], timeout_s=50)
    # Then none was wrong, or its node would have failed
    assert {run.nodes[f"actor/{i}"].state for i in range(3)} == {lp.NodeState.FINISHED}
