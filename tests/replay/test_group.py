"""Several servers behind one client: what its writers write is what one server would have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kourou.errors import TableNotFound
from kourou.replay import Client, ItemRule, Table
from kourou.replay.client.group import GroupClient
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")

NAMES = ["t", "u", "v"]


def table(name: str) -> Table:
    return Table(name, Fifo(), Fifo(), 1000, MinSize(1))


@pytest.fixture
def group(serve: Serve, connect: Connect) -> GroupClient:
    """Of two servers."""
    return GroupClient([connect(serve(table("t"), table("u"))), connect(serve(table("v")))])


@pytest.fixture
def single(serve: Serve, connect: Connect) -> Client:
    """Of one."""
    return connect(serve(*map(table, NAMES)))


def contents(client: Any) -> dict[str, list[Any]]:
    return {
        name: [{key: value.tolist() for key, value in sample.data.items()} for sample in client.items(name)]
        for name in NAMES
    }


def test_a_structured_writer_of_a_group(group: GroupClient, single: Client) -> None:
    # Given rules for tables of both servers, one of which uses a column that the others do not
    rules = [
        ItemRule("t", lambda past: {"x": past["x"][-3:]}),
        ItemRule("v", lambda past: {"y": past["y"][-1]}, when=lambda moment: moment.step_index % 2 == 0),
        ItemRule("u", lambda past: {"x": past["x"][-2::]}, when=lambda moment: moment.is_end_of_episode),
    ]
    # When the same steps are written to the group and to one server
    for client in (group, single):
        with client.structured_writer(rules) as writer:
            for episode in range(2):
                for number in range(6):
                    writer.append({"x": np.array(number)}, partial_step=True)
                    assert writer.step_is_open
                    writer.append({"y": np.full(2, episode)})
                assert writer.episode_steps == 6
                writer.end_episode()
    # Then the same items are there
    assert contents(group) == contents(single)
    assert all(contents(group).values())


def test_a_batch_writer_of_a_group(group: GroupClient, single: Client) -> None:
    # Given steps of three environments, whose episodes end at different times
    ends = [[False, True, False], [True, False, False]]
    for client in (group, single):
        with client.batch_writer(3, 2) as writer:
            for number in range(4):
                writer.append({"x": np.arange(3) * 10 + number})
                # When items are made for tables of both servers
                for name in NAMES:
                    writer.create_items(name, 1.0, {"x": writer.history["x"][-1:]})
                if number:
                    writer.create_items("v", [1.0, 2.0, 3.0], {"x": writer.history["x"][-2:]}, [True, True, False])
                writer.end_episodes(ends[number % 2])
            assert writer.episode_steps.tolist() == [0, 1, 4]
    # Then the same items are there
    assert contents(group) == contents(single)
    assert len(contents(group)["v"]) > len(contents(group)["t"]) == 12


def test_a_table_that_no_server_has(group: GroupClient) -> None:
    with pytest.raises(TableNotFound, match="'nowhere'"):
        group.structured_writer([ItemRule("nowhere", lambda past: past["x"][-1])])
    with pytest.raises(TableNotFound, match="'nowhere'"):
        group.batch_writer(2, 1, tables=["t", "nowhere"])
    with pytest.raises(ValueError, match="at least one rule"):
        group.structured_writer([])
    with group.batch_writer(1, 1, tables=["t"]) as writer:
        writer.append({"x": np.zeros(1)})
        with pytest.raises(TableNotFound, match="writes no table 'v'"):
            writer.create_items("v", 1.0, {"x": writer.history["x"][-1:]})
