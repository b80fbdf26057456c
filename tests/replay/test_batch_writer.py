"""Writers for vectorised environments, against one list of steps for each environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fuzzing import examples
from kourou.errors import SignatureError, TableNotFound
from kourou.replay import Client, Server, Table, TensorSpec
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Prioritized
from replay.conftest import Connect, Serve

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server([Table("t", Fifo(), Fifo(), 10_000, MinSize(1))]) as server:
        yield server


@pytest.fixture(scope="module", params=["local", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(server.address, lane=request.param) as client:
        yield client


def step_of(width: int) -> dict[str, np.ndarray]:
    number = next(_numbers)
    marks = 100 * number + np.arange(width)
    return {"a": np.stack([marks, -marks], axis=1), "b": marks.astype(np.float32)}


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 4),
    keep=st.sampled_from([1, 2, 3, 70]),
    # What is done after each step: items (start, stop, which environments), and which episodes end.
    turns=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(-4, -1), st.integers(-3, 0), st.integers(0, 15)), max_size=2),
            st.integers(0, 15),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_each_environment_has_a_trajectory_of_its_own(
    client: Client, width: int, keep: int, turns: list[tuple[list[tuple[int, int, int]], int]]
) -> None:
    client.reset("t")
    episodes: list[list[dict[str, Any]]] = [[] for _ in range(width)]
    expected: dict[int, dict[str, Any]] = {}
    steps = 0
    with client.batch_writer(width, keep) as writer:
        for items, ends in turns:
            step = step_of(width)
            writer.append(step)
            steps += 1
            for index, episode in enumerate(episodes):
                episode.append({name: array[index] for name, array in step.items()})
            assert writer.episode_steps.tolist() == [len(episode) for episode in episodes]
            assert np.array_equal(writer.history["a"][-1].numpy(), step["a"])
            assert len(writer.history["a"]) == steps
            for start, stop, which in items:
                end = stop or None
                if start >= (stop or 1) or -start > min(keep, steps):
                    continue
                chosen = [bool(which >> index & 1) for index in range(width)]
                trajectory = {"x": writer.history["a"][start:end], "y": writer.history["b"][start]}
                keys = writer.create_items("t", np.arange(width), trajectory, chosen)
                for index, episode in enumerate(episodes):
                    made = chosen[index] and len(episode) >= -start
                    assert bool(keys[index]) == made
                    if made:
                        part = [one["a"].tolist() for one in episode[start:end]]
                        expected[int(keys[index])] = {"x": part, "y": episode[start]["b"], "p": index}
            mask = [bool(ends >> index & 1) for index in range(width)]
            writer.end_episodes(mask)
            for index in np.flatnonzero(mask).tolist():
                episodes[index].clear()
    found = {
        sample.info.key: {"x": sample.data["x"].tolist(), "y": sample.data["y"], "p": sample.info.priority}
        for sample in client.items("t", limit=10_000)
    }
    assert found == expected


def test_many_steps_reuse_their_memory(serve: Serve, connect: Connect) -> None:
    server = serve(Table("t", Fifo(), Fifo(), 64, MinSize(1)))
    client = connect(server)
    with client.batch_writer(16, 5) as writer:
        for number in range(500):
            writer.append({"x": np.full((16, 2500), number, np.float32), "i": np.arange(16)})
            writer.create_items("t", 1.0, {name: writer.history[name][-5:] for name in ("x", "i")})
            writer.end_episodes(np.arange(16) == number % 16)
    batch = client.items("t")
    assert all((sample.data["i"] == sample.data["i"][0]).all() for sample in batch)
    assert all((np.diff(sample.data["x"][:, 7]) == 1).all() for sample in batch)
    (store,) = server._data.stores
    assert store.top * store.block_bytes < 200 << 20


def test_mistakes_of_a_batch_writer(serve: Serve, connect: Connect) -> None:
    signature = {"x": TensorSpec((2, 3), np.float32)}
    client = connect(serve(Table("t", Prioritized(1.0), Fifo(), 10, MinSize(1), signature=signature)))
    for arguments in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            client.batch_writer(*arguments)
    with client.batch_writer(2, 2) as writer:
        with pytest.raises(RuntimeError, match="before the first step"):
            _ = writer.history
        with pytest.raises(ValueError, match="2 environments"):
            writer.append({"x": np.zeros((3, 3), np.float32)})
        with pytest.raises(TypeError, match="fixed dtype"):
            writer.append({"x": np.array([None, None])})
        for _ in range(3):
            writer.append({"x": np.zeros((2, 3), np.float32)})
        with pytest.raises(ValueError, match="float64"):
            writer.append({"x": np.zeros((2, 3))})
        with pytest.raises(ValueError, match="another way"):
            writer.append([np.zeros((2, 3), np.float32)])
        with pytest.raises(ValueError, match="shape"):
            writer.end_episodes([True])
        good = {"x": writer.history["x"][-2:]}
        with pytest.raises(TableNotFound):
            writer.create_items("nope", 1.0, good)
        for bad in (-1.0, [1.0, float("nan")]):
            with pytest.raises(ValueError, match="no priority"):
                writer.create_items("t", bad, good)
        with pytest.raises(SignatureError):
            writer.create_items("t", 1.0, {"x": writer.history["x"][-1:]})
        with pytest.raises(TypeError, match="no part"):
            writer.create_items("t", 1.0, {"x": np.zeros(3)})
        assert (writer.create_items("t", [1.0, 2.0], good) > 0).all()
        writer.append({"x": np.ones((2, 3), np.float32)})
        with pytest.raises(ValueError, match="not kept"):
            writer.create_items("t", 1.0, good)
    assert client.items("t").priorities.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="closed"):
        writer.append({"x": np.zeros((2, 3), np.float32)})
