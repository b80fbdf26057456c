"""Of how many episodes a table has items, whoever wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou.replay import Checkpointer, Client, GroupClient, ItemRule, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Uniform
from kourou.replay.server import snapshot as snapshots
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")


def table(name: str = "t", max_size: int = 100, **options: Any) -> Table:
    return Table(name, Uniform(), Fifo(), max_size, MinSize(1), **options)


def episodes(client: Client | GroupClient, name: str = "t") -> tuple[int, int]:
    info = client.server_info()[name]
    return info.num_episodes, info.num_deleted_episodes


def write_steps(writer: Any, count: int) -> None:
    for number in range(count):
        writer.append({"x": np.array(number)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})


def write_episodes(client: Client | GroupClient) -> None:
    """Of four, two and three items; the second one keeps the history."""
    with client.trajectory_writer(2) as writer:
        write_steps(writer, 4)
        writer.end_episode()
        writer.end_episode()  # one without items does not count
        write_steps(writer, 2)
        writer.end_episode(clear_buffers=False)
        write_steps(writer, 3)


def test_episodes_come_and_go_with_their_items(serve: Serve, connect: Connect) -> None:
    # given a table that does not hold all that two writers make
    client = connect(serve(table(max_size=11)))
    write_episodes(client)
    assert episodes(client) == (3, 0)
    # when more comes, then episodes go with their last items
    write_episodes(client)
    assert episodes(client) == (4, 2)
    # and what was inserted without a writer is an episode by itself
    client.insert_batch("t", {"x": np.arange(4)})
    client.insert({"x": np.array(0)}, {"t": 1.0})
    assert client.server_info()["t"].current_size == 11
    assert episodes(client) == (8, 3)
    # when items are deleted by their keys, or change their priority, then it is the same
    keys = client.items("t").keys
    client.mutate_priorities("t", {int(keys[0]): 3.0}, deletes=keys[-2:])
    assert episodes(client) == (6, 5)
    # when it is reset, then it counts from 0
    client.reset("t")
    assert episodes(client) == (0, 0)


def test_items_that_are_sampled_often_enough_take_their_episode_along(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table(max_times_sampled=1)))
    write_episodes(client)
    client.sample_batch("t", 9)
    assert episodes(client) == (0, 3)


def test_each_environment_has_its_episodes(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    with client.batch_writer(3, 2) as writer:
        for number in range(4):
            writer.append({"x": np.full(3, number)})
            writer.create_items("t", 1.0, {"x": writer.history["x"][-1]})
            writer.end_episodes(np.array([True, number == 1, False]))
    assert episodes(client) == (4 + 2 + 1, 0)


def test_rules_make_items_of_the_episode_that_ends(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    rules = [
        ItemRule("t", lambda past: past["x"][-1]),
        ItemRule("t", lambda past: past["x"][-2:], when=lambda moment: moment.is_end_of_episode),
    ]
    with client.structured_writer(rules) as writer:
        for _ in range(3):
            writer.append({"x": np.array(1)})
            writer.append({"x": np.array(2)})
            writer.end_episode()
    assert client.server_info()["t"].current_size == 9
    assert episodes(client) == (3, 0)


def test_writers_of_several_servers_count_at_each(serve: Serve) -> None:
    servers = [serve(table("t")), serve(table("u"))]
    with GroupClient([server.localhost_client() for server in servers]) as group:
        write_episodes(group)
        assert (episodes(group, "t"), episodes(group, "u")) == ((3, 0), (0, 0))


def test_a_checkpoint_knows_them(tmp_path: Path) -> None:
    # given a table that has lost an episode already
    checkpointer = Checkpointer(tmp_path)
    with Server([table(max_size=5)], checkpointer=checkpointer) as server, server.localhost_client() as client:
        write_episodes(client)
        assert episodes(client) == (2, 1)
        client.checkpoint()
    # when a smaller one is filled from the checkpoint, then what does not fit goes, too
    with Server([table(max_size=3)], checkpointer=checkpointer) as server, server.localhost_client() as client:
        assert episodes(client) == (1, 2)


def test_a_checkpoint_that_does_not_know_them_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a checkpoint as earlier versions wrote it
    checkpointer = Checkpointer(tmp_path)
    with Server([table()], checkpointer=checkpointer) as server, server.localhost_client() as client:
        write_episodes(client)
        with monkeypatch.context() as patch:
            patch.setattr(
                snapshots.TableSnapshot,
                "__getstate__",
                lambda self: {
                    name: value for name, value in vars(self).items() if name not in {"episodes", "deleted_episodes"}
                },
                raising=False,
            )
            client.checkpoint()
    # when it is read, then each of its items counts as an episode
    with Server([table()], checkpointer=checkpointer) as server, server.localhost_client() as client:
        assert client.server_info()["t"].current_size == 9
        assert episodes(client) == (9, 0)
