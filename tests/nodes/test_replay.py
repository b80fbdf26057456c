"""ReplayNode and ReplayGroup."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kourou as lp
from kourou.errors import CallCancelled, CheckpointError, GraphError, NodeRestarted, TableNotFound
from kourou.replay import Checkpointer, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Uniform
from kourou.runtime.node_process.checkpointing import _clock
from optional import psutil, pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH_TYPES = ["local_mt", "local_mp"]
LAUNCH = pytest.mark.parametrize("launch_type", LAUNCH_TYPES)


def tables() -> list[Table]:
    return [Table("t", Uniform(), Fifo(), 1000, MinSize(1)), Table.queue("q", 10)]


def checkpointer(path: Path, **options: Any) -> Callable[[], Checkpointer]:
    return functools.partial(Checkpointer, path, **options)


def numbers(path: Path) -> list[int]:
    """What the latest checkpoint has in table t."""
    with Server(tables(), checkpointer=Checkpointer(path)) as server, server.localhost_client() as client:
        return sorted(int(sample.data["x"]) for sample in client.items("t"))


def produce(client: Any, count: int) -> None:
    with client.trajectory_writer(1) as writer:
        for number in range(count):
            writer.append({"x": np.array(number)})
            writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})


def consume(client: Any, count: int) -> None:
    seen: set[int] = set()
    while len(seen) < count:
        seen.update(client.sample_batch("t", 64, timeout_s=WAIT_S).data["x"].tolist())
    client.insert({"done": np.array(True)}, {"q": 1.0})


@LAUNCH
@pytest.mark.parametrize("group", [False, True], ids=["node", "group"])
def test_nodes_and_the_launcher_share_tables(launch_type: str, group: bool) -> None:
    # given a program in which one node writes and another one samples
    program = lp.Program("replay")
    node: lp.Node = lp.ReplayGroup(2, tables) if group else lp.ReverbNode(priority_tables_fn=tables)
    handle: Any = program.add_node(node, label="replay")
    program.add_node(lp.PyNode(produce, handle, 50), label="producer")
    program.add_node(lp.PyNode(consume, handle, 50), label="consumer")
    # when it runs
    with lp.launch(program, launch_type), handle.dereference() as client:
        # then the launcher gets what the consumer inserted once it had seen everything
        assert client.sample_batch("q", 1, timeout_s=WAIT_S).data["done"].tolist() == [True]
        assert client.server_info()["t"].inserts == 50


def wait_for_more(client: Any) -> None:
    """Wait for a limiter in all ways, none of which may hold up the program's end."""
    with client.sampler("q", 4) as batches:
        assert not list(batches)
    with pytest.raises(CallCancelled, match="waits no more"):
        client.sample_batch("q", 1)
    client.insert_batch("q", {"x": np.arange(10)})
    with pytest.raises(CallCancelled, match="0 of 1 items"):
        client.insert({"x": np.array(1)}, {"q": 1.0})
    client.insert({"ok": np.array(True)}, {"t": 1.0})


@LAUNCH
def test_waits_end_when_the_program_stops_and_the_last_checkpoint_has_everything(
    launch_type: str, tmp_path: Path
) -> None:
    # given a node that waits for items that nobody will insert
    program = lp.Program("replay")
    handle = program.add_node(lp.ReplayNode(tables, checkpointer(tmp_path / "c")), label="replay")
    program.add_node(lp.PyNode(wait_for_more, handle), label="waiter")
    run = lp.launch(program, launch_type, stop_timeline=lp.StopTimeline(ask_s=600))
    client = handle.dereference()
    until(lambda: client.server_info()["q"].waiting_samples, WAIT_S)
    # when the program stops
    run.stop()
    # then the node is told at once, ends by itself, and what it did last is in the checkpoint
    assert [record.state for record in run.nodes.values()] == [lp.NodeState.FINISHED] * 2
    client.close()
    with Server(tables(), checkpointer=Checkpointer(tmp_path / "c")) as server, server.localhost_client() as restored:
        assert [sample.data for sample in restored.items("t")] == [{"ok": True}]


@LAUNCH
def test_checkpoints_are_written_by_the_clock(launch_type: str, tmp_path: Path) -> None:
    program = lp.Program("replay")
    node = lp.ReplayNode(tables, checkpointer(tmp_path / "c", keep_latest=100), 0.1 / 60)
    handle = program.add_node(node, label="replay")
    with lp.launch(program, launch_type), handle.dereference() as client:
        client.insert_batch("t", {"x": np.arange(5)})
        until(lambda: len(list((tmp_path / "c").glob("checkpoint-*"))) >= 5, WAIT_S)
        assert Path(client.checkpoint()).is_dir()
    assert numbers(tmp_path / "c") == list(range(5))


def test_the_clock_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = _clock(10.0)
    assert next(clock) == 110.0
    now = 113.0  # the first one took three seconds
    assert next(clock) == 120.0
    now = 147.0  # the second one more than two periods: those that are over are left out
    assert next(clock) == 150.0
    assert next(_clock(None)) is None


def test_a_restarted_node_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    # given a server with items, some of which are in a checkpoint
    program = lp.Program("replay")
    with program.group("replay", on_failure=lp.Restart(max_times=3, backoff_s=0.01)):
        handle = program.add_node(lp.ReplayNode(tables, checkpointer(tmp_path / "c")))
    with lp.launch(program, "local_mp") as run, handle.dereference() as client:
        keys = client.insert_batch("t", {"x": np.arange(8)})
        client.checkpoint()
        client.insert_batch("t", {"x": np.arange(100, 104)})
        waiting: list[BaseException] = []

        def wait() -> None:
            try:
                client.sample_batch("q", 1)
            except Exception as error:
                waiting.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: client.server_info()["q"].waiting_samples, WAIT_S)
        # when it is killed
        pid = run.nodes["replay/0"].pid
        assert pid is not None
        psutil.Process(pid).send_signal(signal.SIGKILL)
        # then calls that waited say so, and the same client finds the checkpoint's items, with their keys
        thread.join(WAIT_S)
        assert isinstance(waiting[0], NodeRestarted)
        assert client.items("t").keys.tolist() == keys.tolist()
        assert set(client.sample_batch("t", 100, timeout_s=WAIT_S).data["x"].tolist()) <= set(range(8))
        # and it goes on
        fresh = client.insert_batch("t", {"x": np.arange(8, 12)})
        assert not set(fresh.tolist()) & set(keys.tolist())
    assert numbers(tmp_path / "c") == list(range(12))


def keep_writing(client: Any) -> None:
    with client.trajectory_writer(2) as writer:
        number = 0
        while not lp.wait_for_stop(0.001):
            writer.append({"x": np.array(number), "y": np.array(-number)})
            if number:
                writer.create_item("t", 1.0, {name: writer.history[name][-2:] for name in ("x", "y")})
            number += 1


def keep_sampling(client: Any) -> None:
    with client.sampler("t", 8) as batches:
        for batch in batches:
            assert (batch.data["x"] == -batch.data["y"]).all()
            assert (np.diff(batch.data["x"]) == 1).all()


@pytest.mark.parametrize("saves", [False, True], ids=["empty", "checkpoint"])
def test_writers_and_samplers_outlive_a_killed_server(tmp_path: Path, saves: bool) -> None:
    # given actors and a learner at work
    program = lp.Program("replay")
    with program.group("replay", on_failure=lp.Restart(max_times=9, backoff_s=0.01)):
        node = lp.ReplayNode(tables, checkpointer(tmp_path / "c") if saves else None, 0.05 / 60 if saves else None)
        handle = program.add_node(node)
    with program.group("worker"):
        for work in (keep_writing, keep_writing, keep_sampling):
            program.add_node(lp.PyNode(work, handle))
    with lp.launch(program, "local_mp") as run, handle.dereference() as client:

        def work_goes_on() -> None:
            before = client.server_info(WAIT_S)["t"]
            until(lambda: client.server_info()["t"].inserts > before.inserts + 50, WAIT_S)
            until(lambda: client.server_info()["t"].samples > before.samples + 100, WAIT_S)

        for attempt in (1, 2):
            work_goes_on()
            # when their server is killed, then they go on with the next one
            pid = run.nodes["replay/0"].pid
            assert pid is not None
            psutil.Process(pid).kill()
            until(functools.partial(lambda before: run.nodes["replay/0"].attempt > before, attempt), WAIT_S)
        work_goes_on()


def test_a_checkpoint_that_fails_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    program = lp.Program("replay")
    node = lp.ReplayNode(tables, checkpointer(tmp_path / "file" / "below"), 0.05 / 60)
    handle = program.add_node(node, label="replay")
    with lp.launch(program, "local_mt") as run, handle.dereference() as client:
        log = run.folder / "logs" / "replay" / "0.log"
        until(lambda: log.exists() and log.read_text().count("replay/0 wrote no checkpoint") >= 3, WAIT_S)
        with pytest.raises(CheckpointError):
            client.checkpoint()
        client.insert({"x": np.array(1)}, {"t": 1.0})
        assert client.sample_batch("t", 1, timeout_s=WAIT_S).data["x"].tolist() == [1]


def test_tables_that_cannot_be_made_end_the_program() -> None:
    program = lp.Program("replay")
    program.add_node(lp.ReplayGroup(3, tables), label="replay")
    with pytest.raises(lp.errors.ProgramFailed, match="3 servers has but 2 tables"):
        lp.launch(program, "local_mt").wait()


def write_to_both(client: Any) -> None:
    with client.trajectory_writer(3, tables=["t", "q"]) as writer:
        for number in range(3):
            writer.append({"x": np.array(number), "y": {"z": np.full(2, number)}})
        for table in ("t", "q"):
            item = {"last": writer.history["x"][-2:], "first": writer.history["y"]["z"][0]}
            writer.create_item(table, 1.0, item)
        writer.end_episode()
        writer.append({"x": np.array(9)})
        writer.create_item("q", 1.0, writer.history["x"][-1])
        with pytest.raises(TableNotFound, match="writes no table 'u'"):
            writer.create_item("u", 1.0, writer.history["x"][-1])


def test_a_group_has_its_tables_on_several_servers(tmp_path: Path) -> None:
    program = lp.Program("replay")
    options: dict[str, Any] = {"compression": "zstd", "spill_dir": tmp_path / "spill"}
    group = lp.ReplayGroup(2, tables, checkpointer(tmp_path / "c"), **options)
    handle = program.add_node(group, label="replay")
    program.add_node(lp.PyNode(write_to_both, handle), label="writer")
    with lp.launch(program, "local_mp") as run, handle.dereference() as client:
        until(lambda: client.server_info()["q"].current_size == 2, WAIT_S)
        assert [list(one.server_info()) for one in client.clients] == [["t"], ["q"]]
        assert len({record.pid for record in run.nodes.values() if record.pid}) == 3
        keys = client.insert({"a": np.array(1)}, {"t": 2.0, "q": 3.0})
        assert client.get("q", [keys["q"]]).priorities.tolist() == [3.0]
        assert client.mutate_priorities("t", {keys["t"]: 5.0}) == 1
        for table in ("t", "q"):
            (item, *_) = client.items(table)
            assert item.data["last"].tolist() == [1, 2]
            assert item.data["first"].tolist() == [0, 0]
        assert [Path(path).parent.name for path in client.checkpoint()] == ["server-0", "server-1"]
        with pytest.raises(TableNotFound, match="'u'"):
            client.sample_batch("u", 1)
        client.reset("q")
        assert client.server_info()["q"].current_size == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3,), TypeError),
        ((tables, 3), TypeError),
        ((tables, tables, 0), GraphError),
        ((tables, None, 5), GraphError),
    ],
)
def test_nodes_without_meaning_are_refused(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        lp.ReplayNode(*arguments)
    with pytest.raises(error):
        lp.ReplayGroup(1, *arguments)
    with pytest.raises(GraphError, match="at least one server"):
        lp.ReplayGroup(0, tables)


def test_kourou_status_tells_how_tables_stand(runs_dir: Path) -> None:
    # given a program one of whose nodes waits
    program = lp.Program("replay")
    handle = program.add_node(lp.ReplayNode(tables), label="replay")
    program.add_node(lp.PyNode(wait_for_more, handle), label="waiter")
    with lp.launch(program, "local_mp") as run, handle.dereference() as client:
        client.insert_batch("t", {"x": np.arange(5)})
        until(lambda: client.server_info()["q"].waiting_samples, WAIT_S)
        # when somebody looks from another process
        command = [sys.executable, "-m", "kourou.cli", "status", run.run_id]
        shown = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"}
        )
    # then each table has its line, and those who wait have their reasons
    assert "replay/0 t: 5 of 1,000 items" in shown.stdout
    assert "replay/0 q: 2 samples wait: size 0 of at least 1; inserts 0" in shown.stdout
