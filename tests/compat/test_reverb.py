"""Reverb's server, clients and writers, by their own signatures."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from kourou import courier
from kourou.compat import courier as compat_courier, reverb

structured_writer = importlib.import_module("kourou.compat.reverb_structured")


class Spec:
    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype


class Step(NamedTuple):
    obs: Any
    action: Any


SIGNATURE = Step(Spec((2,), np.float32), Spec((), np.int64))


@pytest.fixture(scope="module")
def client() -> Iterator[reverb.Client]:
    tables = [
        reverb.Table.queue("steps", 10, signature=SIGNATURE),
        reverb.Table("by_position", *_selectors(), 10, reverb.rate_limiters.MinSize(1), 0, (), Spec((), np.float64)),
        reverb.Table.queue("any", 10),
    ]
    server = reverb.Server(tables)
    with reverb.Client(f"localhost:{server.port}") as client:
        yield client
    server.stop()


def _selectors() -> tuple[Any, Any]:
    return reverb.selectors.Lifo(), reverb.selectors.Fifo()


def step(number: int) -> Step:
    return Step(np.full(2, number, np.float32), np.int64(number))


def test_items_of_the_older_writer_are_sampled_as_steps(client):
    with client.writer(max_sequence_length=3) as writer:
        for number in range(4):
            writer.append(step(number))
        writer.create_item("steps", num_timesteps=3, priority=1.5)
    ((first, *_, last),) = client.sample("steps")
    assert first.info.priority == 1.5
    assert len(first.info) == 5
    assert [leaf.tolist() for leaf in first.data] == [[1, 1], 1]
    assert last.data[1] == 3


def test_a_sequence_is_a_step_for_each_of_its_rows(client):
    with client.writer(2) as writer:
        writer.append_sequence([np.arange(3)])
        with pytest.raises(ValueError, match="from 1 to the 3 steps, not 4"):
            writer.create_item("any", 4, 1.0)
        writer.create_item("any", 2, 1.0)
    whole = next(client.sample("any", emit_timesteps=False))
    assert whole.data[0].tolist() == [1, 2]


def test_a_step_that_is_inserted_has_an_axis_of_time(client):
    client.insert(step(7), priorities={"steps": 1.0})
    whole = next(client.sample("steps", emit_timesteps=False, unpack_as_table_signature=True))
    assert whole.data.obs.tolist() == [[7, 7]]
    assert whole.data.action.tolist() == [7]


def test_a_bare_signature_is_that_of_a_list_of_one(client):
    client.insert([1.5], {"by_position": 1.0})
    ((only,),) = client.sample("by_position")
    assert only.data == [1.5]


def test_whole_trajectories_are_checked_too(client):
    with client.trajectory_writer(num_keep_alive_refs=2) as writer:
        writer.append({"a": 1.0})
        with pytest.raises(ValueError, match="by_position"):
            writer.create_item("by_position", 1.0, {"a": writer.history["a"][:], "b": writer.history["a"][:]})
        writer.create_item("by_position", 1.0, {"a": writer.history["a"][-1]})
        writer.flush(0, 10_000)
        writer.end_episode(True, 10_000)
    with pytest.raises(ValueError, match="non timestep"):
        next(client.sample("by_position"))


def test_dicts_are_flat_by_their_sorted_keys(client):
    client.insert({"b": 1, "a": {"z": 2, "y": 3}}, {"any": 1.0})
    ((only,),) = client.sample("any")
    assert only.data == [3, 2, 1]


def test_patterns_and_conditions_make_items(client):
    structure = {"x": None, "done": None}
    reference = structured_writer.create_reference_step(structure)
    condition = structured_writer.Condition
    config = structured_writer.create_config(
        pattern={"last": reference["x"][-2:]},
        table="any",
        conditions=[condition.step_index() % 2 == 1, condition.data(structure)["done"] < 1],
    )
    with client.structured_writer([config]) as writer:
        for number in range(6):
            writer.append({"x": number, "done": int(number == 3)})
    got = [next(client.sample("any", emit_timesteps=False)).data[0].tolist() for _ in range(2)]
    assert got == [[0, 1], [4, 5]]
    assert client.server_info(timeout=5)["any"].current_size == 0
    spec = structured_writer.infer_signature([config], {"x": Spec((), np.int64), "done": Spec((), np.int64)})
    assert spec["last"].shape == (2,)
    assert structured_writer.unpack_pattern(config)["last"].steps == range(-2, 0)


def test_an_item_is_due_when_the_rule_was_not_applied_for_so_many_steps(client):
    reference = structured_writer.create_reference_step([None])
    condition = structured_writer.Condition.steps_since_applied() >= 3
    config = structured_writer.create_config([reference[0][-1]], "any", [condition])
    with client.structured_writer([config]) as writer:
        for number in range(6):
            writer.append([number])
    assert [int(next(client.sample("any", emit_timesteps=False)).data[0]) for _ in range(2)] == [2, 5]


def test_a_table_is_made_anew_with_another_limiter(client):
    table: Any = reverb.Table.queue("q", 3, signature=SIGNATURE)
    limiter = table.info.rate_limiter_info
    assert (limiter.samples_per_insert, limiter.min_size_to_sample, limiter.min_diff, limiter.max_diff) == (1, 1, 0, 3)
    unblocked = reverb.rate_limiters.RateLimiter(limiter.samples_per_insert, 1, limiter.min_diff, max_diff=100.0)
    another = table.replace(rate_limiter=unblocked)
    assert another.info.rate_limiter_info.max_diff == 100
    client.insert([1], {"any": 1.0})
    assert len(list(client.sample("any"))) == 1
    told = client.server_info()["any"].rate_limiter_info
    assert told.insert_stats.completed == told.sample_stats.completed > 0


def test_a_client_arrives_as_one(client):
    arrived = pickle.loads(pickle.dumps(client))
    assert isinstance(arrived, reverb.Client)
    assert arrived.server_address == client.server_address


def test_a_server_writes_checkpoints_though_it_was_not_told_where(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = reverb.Server([reverb.Table.queue("q", 1)])
    assert list(tmp_path.glob("reverb-*")) == []
    with server.localhost_client() as own:
        assert own.checkpoint().startswith(str(tmp_path))
    server.stop()


def test_a_courier_server_knows_its_port_before_it_is_started():
    server = compat_courier.Server("name", thread_pool_size=2)
    address = server.address
    server.Bind("add", lambda a, b: a + b)
    server.BindHandler("minus", lambda a, b: a - b)
    assert not server.has_started
    server.Start()
    client = compat_courier.Client(address, call_timeout=10)
    assert (client.add(1, 2), client.futures.minus(3, 1).result(), client.address) == (3, 2, address)
    assert compat_courier.list_methods(client) == ["add", "minus"]
    courier.close(client)
    server.Stop()
    server.Join()
