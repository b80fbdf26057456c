"""Checkpoints: what is read is what was there, whatever happened."""

from __future__ import annotations

import errno
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou.errors import CheckpointError
from kourou.replay import Checkpointer, Client, Server, Table
from kourou.replay.arrays.tree import TreeDef
from kourou.replay.rate_limiters import MinSize, Queue, RateLimiter, SampleToInsertRatio
from kourou.replay.selectors import Fifo, MaxHeap, Prioritized, Uniform
from kourou.replay.server import checkpoints, snapshot

pytestmark = pytest.mark.usefixtures("no_leaks")


def tables() -> list[Table]:
    return [
        Table("t", Prioritized(1.0), Fifo(), 50, MinSize(1)),
        Table("u", MaxHeap(), Fifo(), 1000, SampleToInsertRatio(2.0, 3, 10_000.0), 5),
    ]


def contents(client: Client) -> Any:
    found: dict[str, Any] = {}
    for name in ("t", "u"):
        batch = client.items(name)
        fields = "key", "priority", "times_sampled", "inserted_ns", "policy_version"
        info = [batch.info[field].tolist() for field in fields]
        found[name] = info, [{key: value.tolist() for key, value in sample.data.items()} for sample in batch]
    return found


def fill(client: Client, seed: int) -> None:
    """Insert, overlap, push out, sample and update."""
    chance = np.random.default_rng(seed)
    keys = client.insert_batch("t", {"a": chance.random((20, 3))}, chance.random(20))
    client.mutate_priorities("t", (keys[:5], np.arange(5.0)), deletes=keys[7:9])
    client.insert({"a": np.full(3, seed), "b": np.array(1)}, {"t": 1.0, "u": 3.0})
    with client.trajectory_writer(7) as writer:
        writer.policy_version = seed
        writer.configure(("x",), num_keep_alive_refs=7, max_chunk_length=3)
        for step in range(30):
            writer.append({"x": chance.random(2), "n": np.array(step, np.int16)})
            if step >= 6:
                writer.create_item("u", step, {"x": writer.history["x"][-7:], "n": writer.history["n"][-1]})
    client.sample_batch("t", 9)
    client.sample_batch("u", 7)


def test_what_was_there_is_there_again(tmp_path: Path) -> None:
    # given several checkpoints, each after more was done
    checkpointer = Checkpointer(tmp_path, keep_latest=2)
    with Server(tables(), checkpointer=checkpointer) as server, server.localhost_client() as client:
        for seed in range(5):
            fill(client, seed)
            path = client.checkpoint()
            assert Path(path).is_dir()
        expected, info = contents(client), client.server_info()
    # when another server reads the last one
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        # then it has the same items, and goes on where the other one stopped
        assert contents(client) == expected
        again = client.server_info()["u"]
        assert (again.inserts, again.samples, again.current_size) == (
            info["u"].inserts,
            info["u"].samples,
            info["u"].current_size,
        )
        fill(client, 99)
        assert len(set(client.items("u").keys.tolist())) == client.server_info()["u"].current_size
        client.checkpoint()
        expected = contents(client)
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    table = Table("t", Uniform(), Fifo(), 1000, MinSize(1))
    with (
        Server([table], checkpointer=Checkpointer(tmp_path, keep_latest=3)) as server,
        server.localhost_client() as client,
    ):
        sizes = []
        for count in (500, 10, 10):
            client.insert_batch("t", {"a": np.random.default_rng(0).random((count, 1000))})
            client.checkpoint()
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob("data-*.bin")))
    assert sizes[0] >= 4_000_000
    assert sizes[2] < 1.05 * sizes[0]


def test_a_file_mostly_out_of_use_is_given_up(tmp_path: Path) -> None:
    table = Table("t", Uniform(), Fifo(), 100, MinSize(1))
    with Server([table], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        for _ in range(10):
            client.insert_batch("t", {"a": np.zeros((30, 1000))})
            client.checkpoint()
        size = sum(path.stat().st_size for path in tmp_path.glob("data-*.bin"))
    assert size < 3 * 100 * 8000


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    (tmp_path / "zzz").mkdir()
    with (
        Server(tables(), checkpointer=Checkpointer(tmp_path, keep_latest=2)) as server,
        server.localhost_client() as client,
    ):
        for seed in range(4):
            fill(client, seed)
            client.checkpoint()
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("data-"))
    assert names == ["checkpoint-00000003", "checkpoint-00000004", "model", "zzz"]


def write_two(folder: Path) -> tuple[Any, Path]:
    """What is in the first of two checkpoints, and where the second one is."""
    with (
        Server(tables(), checkpointer=Checkpointer(folder, keep_latest=2)) as server,
        server.localhost_client() as client,
    ):
        fill(client, 0)
        client.checkpoint()
        expected = contents(client)
        fill(client, 1)
        last = Path(client.checkpoint())
    return expected, last


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    expected, last = write_two(tmp_path)
    raw = bytearray((last / "state.bin").read_bytes())
    raw[len(raw) // 2] ^= 1
    (last / "state.bin").write_bytes(raw)
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected
    for path in tmp_path.glob("data-*.bin"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        Server(tables(), checkpointer=Checkpointer(tmp_path))


def test_what_others_could_have_written_is_not_unpickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # given two checkpoints, made with a umask that lets everybody write
    umask = os.umask(0)
    try:
        expected, last = write_two(tmp_path)
    finally:
        os.umask(umask)
    # when somebody else can write to the last one
    last.chmod(0o777)
    # then the one before is read, and the log says so
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected
    assert f"chmod go-w {last}" in caplog.text


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        fill(client, 0)
        client.checkpoint()
    with pytest.raises(CheckpointError, match="'u'"):
        Server(tables()[:1], checkpointer=Checkpointer(tmp_path))
    with Server([*tables(), Table.queue("new", 3)], checkpointer=Checkpointer(tmp_path)) as server:
        assert [len(table) for table in server.tables] == [19, 24, 0]


@pytest.mark.parametrize(
    "limiter", [Queue(40), SampleToInsertRatio(5.0, 2, 20.0), RateLimiter(1.0, 1, -3.0, 4.0), MinSize(10)], ids=range(4)
)
def test_the_code_has_the_last_word_and_nobody_is_blocked(tmp_path: Path, limiter: RateLimiter) -> None:
    old = Table("t", Fifo(), Fifo(), 30, MinSize(1))
    with Server([old], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        client.insert_batch("t", {"a": np.arange(100)})
        client.sample_batch("t", 7)
        client.checkpoint()
    new = Table("t", Uniform(), Fifo(), 20, limiter)
    with Server([new], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert client.items("t").data["a"].tolist() == list(range(80, 100))
        assert server.tables[0].info.rate_limiter == limiter
        assert new.can_sample(1)
        assert new.can_insert(1)
    with Server([new.replace()], checkpointer=Checkpointer(tmp_path, config="file")) as server:
        assert server.tables[0].info.sampler == Fifo()
        assert server.tables[0].info.max_size == 30
        assert len(server.tables[0]) == 30


def test_sampling_goes_on_while_one_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a checkpoint that is being written
    checkpointer = Checkpointer(tmp_path)
    began, go_on = threading.Event(), threading.Event()
    save = checkpointer._save

    def slow(*args: Any) -> Path:
        began.set()
        go_on.wait(20)
        return save(*args)

    monkeypatch.setattr(checkpointer, "_save", slow)
    with Server(tables(), checkpointer=checkpointer) as server, server.localhost_client() as client:
        fill(client, 0)
        expected = contents(client)
        thread = threading.Thread(target=client.checkpoint)
        thread.start()
        assert began.wait(20)
        # when the tables go on, and even forget what is to be written
        fill(client, 1)
        client.reset("t")
        client.insert_batch("t", {"a": np.zeros((40, 3))})
        go_on.set()
        thread.join()
    # then the checkpoint has what was there when it began
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected


def test_the_later_of_two_checkpoints_has_what_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a checkpoint that is asked for, and waits for its turn, while items come
    checkpointer = Checkpointer(tmp_path)
    asked, go_on, save = threading.Event(), threading.Event(), checkpointer.save

    def late(*args: Any) -> Path:
        if not asked.is_set():
            asked.set()
            assert go_on.wait(20)
        return save(*args)

    monkeypatch.setattr(checkpointer, "save", late)
    with Server(tables(), checkpointer=checkpointer) as server, server.localhost_client() as client:
        fill(client, 0)
        thread = threading.Thread(target=client.checkpoint)
        thread.start()
        assert asked.wait(20)
        fill(client, 1)
        expected = contents(client)
        # when another one overtakes it
        client.checkpoint()
        go_on.set()
        thread.join()
    # then what is kept is not older than that
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected


def test_after_a_disk_was_full_a_checkpoint_is_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a checkpoint whose data did not fit on the disk
    with (
        Server(tables(), checkpointer=Checkpointer(tmp_path)) as server,
        server.localhost_client() as client,
        monkeypatch.context() as patched,
    ):
        fill(client, 0)

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            client.checkpoint()
        patched.undo()
        # when there is room again, for that and for more
        fill(client, 1)
        expected = contents(client)
        client.checkpoint()
    # then all is in the next one
    with Server(tables(), checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        assert contents(client) == expected


def test_without_a_checkpointer_there_is_no_checkpoint() -> None:
    with (
        Server(tables()) as server,
        server.localhost_client() as client,
        pytest.raises(CheckpointError, match="without a checkpointer"),
    ):
        client.checkpoint()


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with Server(tables(), checkpointer=Checkpointer(blocker / "below")) as server, server.localhost_client() as client:
        with pytest.raises(CheckpointError, match="could be written"):
            client.checkpoint()
        fill(client, 0)


def test_a_checkpoint_of_a_version_with_other_modules_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a checkpoint that was written when replay's classes were all in another module
    checkpointer = Checkpointer(tmp_path)
    with Server(tables(), checkpointer=checkpointer) as server, server.localhost_client() as client:
        fill(client, 1)
        before = contents(client)
        with monkeypatch.context() as patch:
            earlier = types.ModuleType("kourou.replay.earlier")
            patch.setitem(sys.modules, earlier.__name__, earlier)
            for kind in (*vars(snapshot).values(), *vars(checkpoints).values(), TreeDef, MinSize, Uniform):
                if isinstance(kind, type) and kind.__module__.startswith("kourou.replay."):
                    patch.setattr(kind, "__module__", earlier.__name__)
                    setattr(earlier, kind.__name__, kind)
            earlier.Structure = TreeDef  # type: ignore[attr-defined]
            TreeDef.__qualname__ = "Structure"
            try:
                written = Path(client.checkpoint()) / "state.bin"
            finally:
                TreeDef.__qualname__ = "TreeDef"
        assert b"kourou.replay.earlier" in written.read_bytes()
        assert b"Structure" in written.read_bytes()
    # When it is read, then everything is there
    with Server(tables(), checkpointer=checkpointer) as server, server.localhost_client() as client:
        assert contents(client) == before
