"""Data sets for PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kourou.replay import Table
from optional import is_there, optional
from polling import until
from replay.conftest import Connect, Serve

torch = optional("torch")
dataset = optional("kourou.replay.dataset")
pytestmark = pytest.mark.skipif(not is_there("torch"), reason="torch is not installed")


def test_batches_are_tensors(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 100)))
    client.insert_batch("q", {"a": np.arange(20).reshape(10, 2), "b": [np.arange(10, dtype=np.float32)]})
    batches = list(dataset.ReplayDataset(client, "q", 4, rate_limiter_timeout_s=0.05))
    assert [len(batch.info) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.data["a"] for batch in batches]), torch.arange(20).reshape(10, 2))
    assert batches[0].data["b"][0].dtype == torch.float32
    assert batches[0].data["a"].shape == (4, 2)


def test_reverbs_programs_find_the_name_of_its_time_out(serve: Serve, connect: Connect) -> None:
    # Given
    client = connect(serve(Table.queue("q", 100)))
    client.insert_batch("q", {"a": np.arange(4)})
    short: dict[str, Any] = {"rate_limiter_timeout_ms": 50}
    never: dict[str, Any] = {"rate_limiter_timeout_ms": -1}
    # Then
    assert len(next(iter(dataset.ReplayDataset(client, "q", 4, max_samples=4, **never))).info) == 4
    assert list(dataset.ReplayDataset(client, "q", 4, **short)) == []


def test_it_ends_after_so_many_and_draws_no_more(serve: Serve, connect: Connect) -> None:
    server = serve(Table.queue("q", 100))
    client = connect(server)
    client.insert_batch("q", {"a": np.arange(50)})
    loader = torch.utils.data.DataLoader(dataset.ReplayDataset(client, "q", 8, max_samples=20), batch_size=None)
    assert torch.cat([batch.data["a"] for batch in loader]).tolist() == list(range(20))
    assert server.tables[0].info.samples == 20


def test_a_closed_iteration_waits_no_more(serve: Serve, connect: Connect) -> None:
    server = serve(Table.queue("q", 100))
    client = connect(server)
    client.insert_batch("q", {"a": np.arange(4)})
    batches = iter(dataset.ReplayDataset(client, "q", 4))
    next(batches)
    batches.close()
    until(lambda: not server.tables[0].info.waiting_samples, 10)


@pytest.mark.parametrize("options", [{"max_in_flight": -1}, {"max_samples": 0}], ids=["in_flight", "samples"])
def test_numbers_without_meaning_are_refused(serve: Serve, connect: Connect, options: dict[str, int]) -> None:
    client = connect(serve(Table.queue("q", 100)))
    with pytest.raises(ValueError, match="max_"):
        next(iter(dataset.ReplayDataset(client, "q", 4, **options)))
