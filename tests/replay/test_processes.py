"""Servers, writers and samplers in processes of their own, some of which are killed."""

from __future__ import annotations

import contextlib
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kourou.replay import Checkpointer, Client, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Prioritized, Uniform
from nursery import Forked, Nursery
from polling import until
from replay.conftest import Serve

Run = Callable[..., Forked]

# Each step carries a checksum of its bytes, so that a step of two halves is found.
HEAD = """
    import sys, time, zlib
    import numpy as np
    from kourou.replay import Checkpointer, Client, Server, Table
    from kourou.replay.rate_limiters import MinSize
    from kourou.replay.selectors import Fifo, Uniform

    def step(number):
        data = np.random.default_rng(number).integers(0, 1 << 60, 3000)
        return {"data": data, "sum": np.array(zlib.crc32(data))}
"""
WRITER = """
    client = Client(sys.argv[1], lane=sys.argv[2])
    with client.trajectory_writer(3) as writer:
        print("up", flush=True)
        for number in range(1 << 30):
            writer.append(step(number))
            if number >= 2:
                writer.create_item("t", 1.0, {name: writer.history[name][-3:] for name in writer.history})
"""
SAMPLER = """
    client = Client(sys.argv[1], lane=sys.argv[2])
    with client.sampler("t", 32, max_in_flight=128) as batches:
        for number, batch in enumerate(batches):
            for data, sums in zip(batch.data["data"], batch.data["sum"]):
                assert [zlib.crc32(row) for row in data] == sums.tolist(), "torn"
            if number == 3:
                print("up", flush=True)
"""


@pytest.fixture
def run(nursery: Nursery) -> Iterator[Run]:
    """Run a program in a process of its own; it is killed after the test. Waits until it says that it is up."""
    with contextlib.ExitStack() as processes:

        def start(code: str, *arguments: str) -> Forked:
            process = processes.enter_context(nursery.start(textwrap.dedent(HEAD) + textwrap.dedent(code), *arguments))
            processes.callback(process.kill)
            assert process.stdout.readline(), "it ended before it was up"
            return process

        yield start


def check(client: Client) -> None:
    """Sample, and see that no step is torn."""
    batch = client.sample_batch("t", 64, timeout_s=20)
    for data, sums in zip(batch.data["data"], batch.data["sum"], strict=True):
        assert [zlib.crc32(row) for row in data] == sums.tolist()


def kill_clients(server: Server, run: Run, lane: str, delays_s: Iterable[float]) -> None:
    """Kill a writer and a sampler after each delay; each time the server serves on, and nothing is torn."""
    with Client(server.address, lane=lane) as client:
        for delay_s in delays_s:
            writer = run(WRITER, server.address, lane)
            sampler = run(SAMPLER, server.address, lane)
            time.sleep(delay_s)  # not to wait for anything: this is the moment
            assert sampler.poll() is None
            assert writer.poll() is None
            writer.kill()
            check(client)
            sampler.kill()
            check(client)
            until(lambda: len(server._service._sessions) == 1, 20)
        client.reset("t")
    until(lambda: sum(store.used for store in server._data.stores) == 0, 20)


def small_table() -> Table:
    """What is sampled from it is soon pushed out."""
    return Table("t", Uniform(), Fifo(), 50, MinSize(1))


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_killed_clients_leave_nothing_behind(serve: Serve, run: Run, lane: str) -> None:
    kill_clients(serve(small_table()), run, lane, (0.0, 0.1))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_a_hundred_killed_clients_leave_nothing_behind(serve: Serve, run: Run, lane: str) -> None:
    delays_s = np.random.default_rng(0).random(25) / 5  # twice 25 clients on each of two lanes
    kill_clients(serve(small_table()), run, lane, delays_s.tolist())


PRODUCER = """
    first, count = int(sys.argv[3]), int(sys.argv[4])
    with Client(sys.argv[1], lane=sys.argv[2]) as client, client.trajectory_writer(1) as writer:
        print("up", flush=True)
        for number in range(first, first + count):
            writer.append({**step(number), "number": np.array(number)})
            writer.create_item("q", 1.0, {name: writer.history[name][-1] for name in writer.history})
"""
CONSUMER = """
    with Client(sys.argv[1], lane=sys.argv[2]) as client:
        print("up", flush=True)
        with client.sampler("q", 16, max_samples=int(sys.argv[4])) as batches:
            numbers = []
            for batch in batches:
                assert [zlib.crc32(row) for row in batch.data["data"]] == batch.data["sum"].tolist(), "torn"
                numbers += batch.data["number"].tolist()
        print(*numbers)
"""


def test_eight_processes_and_sixty_four_threads_lose_and_double_nothing(serve: Serve, run: Run) -> None:
    # given a queue and a table of priorities
    server = serve(Table.queue("q", 100), Table("p", Prioritized(1.0), Fifo(), 60, MinSize(1)))
    count, each = 4, 300
    lanes = ["local", "grpc", "local", "grpc"]
    # when four processes fill the queue and four others empty it, and 64 threads do all that one can do at once
    consumers = [run(CONSUMER, server.address, lane, "0", str(each)) for lane in lanes]
    producers = [run(PRODUCER, server.address, lane, str(each * i), str(each)) for i, lane in enumerate(lanes)]
    problems: list[BaseException] = []
    with Client(server.address, lane="local") as client:
        client.insert({"x": np.array(0), "y": np.array(0)}, {"p": 1.0})
        threads = [threading.Thread(target=work, args=(client, number, problems)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # then every item came out once, whole
        assert problems == []
        outputs = [process.communicate(timeout=60) for process in [*consumers, *producers]]
        assert [process.returncode for process in [*consumers, *producers]] == [0] * 8
        assert sorted(int(word) for text in outputs[:count] for word in text.split()) == list(range(count * each))
        info = client.server_info()
        assert (info["q"].inserts, info["q"].samples, info["q"].current_size) == (count * each, count * each, 0)
        assert info["p"].inserts - info["p"].deletes == info["p"].current_size <= 60
        client.reset("p")
    until(lambda: sum(store.used for store in server._data.stores) == 0, 20)


def work(client: Client, number: int, problems: list[BaseException]) -> None:
    """Insert, sample, update and delete; each item says twice who made it."""
    try:
        for turn in range(10):
            mark = np.full(3, 1000 * number + turn)
            keys = client.insert_batch("p", {"x": mark, "y": mark}, np.ones(3))
            batch = client.sample_batch("p", 8, timeout_s=30)
            assert batch.data["x"].tolist() == batch.data["y"].tolist()
            client.mutate_priorities("p", (batch.keys, np.arange(1.0, 9.0)), deletes=keys[:1])
    except BaseException as error:
        problems.append(error)


SERVER = """
    tables = [Table("t", Uniform(), Fifo(), 40, MinSize(1))]
    server = Server(tables, checkpointer=Checkpointer(sys.argv[1], keep_latest=2))
    client = server.localhost_client()
    number = max([int(sample.data["number"]) for sample in client.items("t")], default=-1)
    for written in range(1 << 30):
        if written == int(sys.argv[2]):
            print("up", flush=True)
        for _ in range(7):
            number += 1
            keys = client.insert({**step(number), "number": np.array(number)}, {"t": 1.0})
        client.mutate_priorities("t", {keys["t"]: 100.0 + number})
        client.checkpoint()
"""


def kill_servers(folder: Path, run: Run, times: int) -> int:
    """Kill a server that writes checkpoints, again and again; how many items it got to.

    Every other one is killed only after it has written a checkpoint, so there is progress on the busiest machine.
    """
    latest = -1
    chance = np.random.default_rng(0)
    for life in range(times):
        process = run(SERVER, str(folder), str(life % 2))
        time.sleep(0.05 + chance.random() / 4)  # not to wait for anything: this is the moment
        process.kill()
        process.wait()
        table = Table("t", Uniform(), Fifo(), 40, MinSize(1))
        with Server([table], checkpointer=Checkpointer(folder)) as server, server.localhost_client() as client:
            samples = list(client.items("t"))
        numbers = [int(sample.data["number"]) for sample in samples]
        last = numbers[-1] if numbers else latest
        # A whole number of rounds of seven, not fewer than the last time, of which the latest forty are left …
        assert numbers == list(range(max(0, last - 39), last + 1))
        assert (last + 1) % 7 == 0
        assert last >= latest
        # … each of them whole, and as it was.
        assert all(zlib.crc32(sample.data["data"]) == sample.data["sum"] for sample in samples)
        expected = [100.0 + number if number % 7 == 6 else 1.0 for number in numbers]
        assert [sample.info.priority for sample in samples] == expected
        latest = last
    return latest + 1


def test_a_server_killed_while_it_writes_checkpoints(tmp_path: Path, run: Run) -> None:
    assert kill_servers(tmp_path, run, 4) >= 2 * 7


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_server_killed_a_hundred_times_while_it_writes_checkpoints(tmp_path: Path, run: Run) -> None:
    assert kill_servers(tmp_path, run, 100) >= 50 * 7
