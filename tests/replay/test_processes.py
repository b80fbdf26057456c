"""Servers, writers and samplers in processes of their own, some of which are killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kourou.replay import Checkpointer, Client, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Uniform
from polling import until
from replay.conftest import Serve

Run = Callable[..., "subprocess.Popen[str]"]

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
def run() -> Iterator[Run]:
    """Run a program in a process of its own; it is killed after the test. Waits until it says that it is up."""
    processes: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        program = textwrap.dedent(HEAD) + textwrap.dedent(code)
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), "it ended before it was up"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def check(client: Client) -> None:
    """Sample, and see that no step is torn."""
    batch = client.sample_batch("t", 64, timeout=20)
    for data, sums in zip(batch.data["data"], batch.data["sum"], strict=True):
        assert [zlib.crc32(row) for row in data] == sums.tolist()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_killed_clients_leave_nothing_behind(serve: Serve, run: Run, lane: str) -> None:
    # given a small table, so that what is sampled is soon pushed out
    server = serve(Table("t", Uniform(), Fifo(), 50, MinSize(1)))
    with Client(server.address, lane=lane) as client:
        for delay_s in (0.0, 0.03, 0.1):
            # when writers and samplers are killed at any moment
            writer = run(WRITER, server.address, lane)
            sampler = run(SAMPLER, server.address, lane)
            time.sleep(delay_s)  # not to wait for anything: this is the moment
            assert sampler.poll() is None
            assert writer.poll() is None
            writer.kill()
            check(client)
            sampler.kill()
            # then the server serves on, and nothing is torn
            check(client)
            until(lambda: len(server._service._sessions) == 1, 20)
        client.reset("t")
    # and no slot is lost
    until(lambda: sum(store.used for store in server._data.stores) == 0, 20)


@pytest.mark.timeout(180)
def test_many_processes_at_once(serve: Serve, run: Run) -> None:
    server = serve(Table("t", Uniform(), Fifo(), 100, MinSize(1)))
    with Client(server.address) as client:
        writers = [run(WRITER, server.address, lane) for lane in ("local", "grpc")]
        samplers = [run(SAMPLER, server.address, lane) for lane in ("local", "grpc")]
        for _ in range(20):
            check(client)
        assert all(process.poll() is None for process in [*writers, *samplers])


SERVER = """
    tables = [Table("t", Uniform(), Fifo(), 40, MinSize(1))]
    server = Server(tables, checkpointer=Checkpointer(sys.argv[1], keep_latest=2))
    client = server.localhost_client()
    number = max([int(sample.data["number"]) for sample in client.items("t")], default=-1)
    print("up", flush=True)
    while True:
        for _ in range(7):
            number += 1
            client.insert({**step(number), "number": np.array(number)}, {"t": 1.0})
        client.checkpoint()
"""


@pytest.mark.timeout(180)
def test_a_server_killed_while_it_writes_checkpoints(tmp_path: Path, run: Run) -> None:
    latest = -1
    chance = np.random.default_rng(0)
    for _ in range(6):
        process = run(SERVER, str(tmp_path))
        time.sleep(0.2 + chance.random() / 3)  # not to wait for anything: this is the moment
        process.kill()
        process.wait()
        table = Table("t", Uniform(), Fifo(), 40, MinSize(1))
        with Server([table], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
            samples = [sample.data for sample in client.items("t")]
        numbers = [int(data["number"]) for data in samples]
        if numbers:
            # A whole number of rounds of seven, the latest forty of them, each of them whole.
            assert numbers == list(range(max(0, numbers[-1] - 39), numbers[-1] + 1))
            assert (numbers[-1] + 1) % 7 == 0
            assert numbers[-1] >= latest
            assert all(zlib.crc32(data["data"]) == data["sum"] for data in samples)
            latest = numbers[-1]
    assert latest > 0
