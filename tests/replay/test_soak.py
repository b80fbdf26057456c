"""Servers that are killed again and again under writers of all kinds: nothing is lost unsaid, and nothing hangs."""

from __future__ import annotations

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
import pytest

from kourou.errors import CallCancelled, ConnectionLost
from kourou.replay import Client, ItemRule
from quiet_ports import quiet_port

pytestmark = pytest.mark.usefixtures("no_leaks")

# Every key that table t takes in is in a file before anybody hears of it.
SERVER = """
import os, signal, sys
from kourou.replay import Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Custom, Fifo, Uniform

class Logged:
    def __init__(self):
        self.file = os.open(log, os.O_WRONLY | os.O_CREAT)
        self.keys = []
    def insert(self, key, priority):
        os.write(self.file, key.to_bytes(8, "little"))
        self.keys.append(key)
    def update(self, key, priority):
        os.write(self.file, key.to_bytes(8, "little"))
    def delete(self, key):
        self.keys.remove(key)
    def sample(self):
        return self.keys[-1], 1.0

def serve(log, port):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all threads: it is waited for below
    tables = [Table("t", Custom(Logged), Fifo(), 300, MinSize(1)), Table("u", Uniform(), Fifo(), 50, MinSize(1))]
    server = Server(tables, int(port))
    print(server.address, flush=True)
    signal.sigwait({signal.SIGTERM})
    server.stop()

child = 0
for line in sys.stdin:  # which signal ends the one that there is; the log and the port of the next one, if any
    ended_by, *next_one = line.split()
    if child:
        os.kill(child, int(ended_by))
        os.waitpid(child, 0)
        child = 0
    if next_one:
        log = next_one[0]
        child = os.fork()
        if not child:
            try:
                serve(*next_one)
            finally:
                os._exit(1)
    else:
        print(flush=True)
"""
LANES = ["local", "grpc"]


class Servers:
    """One server after the other, at the same address, forked from one process that has imported what they need."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address = f"127.0.0.1:{quiet_port()}"

    def restart(self, ended_by: signal.Signals = signal.SIGKILL) -> None:
        """Have another one in its place."""
        self._number += 1
        log = self.logs / f"{self._number:06}"
        self.address = self._told(f"{int(ended_by)} {log} {self.address.rpartition(':')[2]}")
        assert self.address, "no server came; it said why"

    def end(self) -> None:
        self._told(str(int(signal.SIGKILL)))
        self._process.communicate(timeout=30)

    def _told(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


class Tally:
    """What one writer made, and what it said of it."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.lost = 0
        self.problem: BaseException | None = None

    def unsaid(self, arrived: set[int]) -> int:
        """Items that are missing, but for those that it said were."""
        return sum(key not in arrived for key in self.keys) - self.lost


def until_done(done: threading.Event, writer: Any, act: Callable[[int], None]) -> None:
    """Write and flush, as long as it takes. What a server that stops says is raised, and counted."""
    number, is_flushed = 0, True
    while not done.is_set() or not is_flushed:
        try:
            if not done.is_set():
                for _ in range(1 + number % 40):
                    number += 1
                    act(number)
            writer.flush(timeout_s=60)
            is_flushed = True
        except CallCancelled:
            is_flushed = False


def trajectories(client: Client, tally: Tally, done: threading.Event) -> None:
    with client.trajectory_writer(5, max_in_flight_items=100) as writer:

        def act(number: int) -> None:
            writer.append({"x": np.full(5, number)})
            tally.keys.append(writer.create_item("t", 1.0, {"x": writer.history["x"][-min(number, 3) :]}))

        until_done(done, writer, act)
    tally.lost = writer.lost_items


def batches(client: Client, tally: Tally, done: threading.Event) -> None:
    with client.batch_writer(4, 5) as writer:

        def act(number: int) -> None:
            writer.append({"x": np.full((4, 5), number)})
            tally.keys.extend(writer.create_items("t", 1.0, {"x": writer.history["x"][-1:]}).tolist())

        until_done(done, writer, act)
    tally.lost = writer.lost_items


def by_rules(client: Client, tally: Tally, done: threading.Event) -> None:
    rules = [ItemRule("u", lambda past: past["x"][-1]), ItemRule("t", lambda past: past["x"][-2:])]
    with client.structured_writer(rules) as writer:
        made = writer._writer.create_item

        def create(table: str, *arguments: Any) -> int:
            key = made(table, *arguments)
            if table == "t":
                tally.keys.append(key)
            return key

        writer._writer.create_item = create  # type: ignore[method-assign, assignment]
        until_done(done, writer, lambda number: writer.append({"x": np.full(5, number)}))
    tally.lost = writer.lost_items


def inserts(client: Client, tally: Tally, done: threading.Event) -> None:
    number = 0
    while not done.is_set():
        number += 1
        try:
            tally.keys.extend(client.insert_batch("t", {"x": np.full((3, 5), number)}).tolist())
            client.insert({"x": np.full(5, number)}, {"u": 1.0})
            client.get("t", tally.keys[-3:])
        except (ConnectionLost, CallCancelled):
            pass


def samples(client: Client, tally: Tally, done: threading.Event) -> None:
    del tally
    while not done.is_set():
        try:
            with client.sampler("u", 4, timeout_s=0.5) as batches:
                for batch in batches:
                    assert all(len(set(sample.data["x"].tolist())) == 1 for sample in batch if "x" in sample.data)
                    if done.is_set():
                        break
            client.sample_batch("u", 3, timeout_s=0.2)
        except (ConnectionLost, CallCancelled, TimeoutError):
            pass


@pytest.mark.parametrize(
    "duration_s",
    [
        3.0,
        pytest.param(
            float(os.environ.get("KOUROU_SOAK_S", "120")), marks=[pytest.mark.soak, pytest.mark.timeout(3600)]
        ),
    ],
    ids=["short", "long"],
)
def test_nothing_is_lost_unsaid_when_servers_are_killed(tmp_path: Path, duration_s: float) -> None:
    # given writers of every kind on every lane, and samplers
    servers, done, chance = Servers(tmp_path), threading.Event(), np.random.default_rng(int(time.time()))
    servers.restart()
    clients = [Client(servers.address, lane=lane, connect_timeout_s=None) for lane in LANES for _ in range(2)]
    for client in clients:
        client.insert({"x": np.zeros(5)}, {"u": 1.0})
    work = [
        (kind, client, Tally())
        for kind in (trajectories, batches, by_rules, inserts, samples)
        for client in clients[:: 1 if kind is trajectories else 2]
    ]

    def run(kind: Callable[..., None], client: Client, tally: Tally) -> None:
        try:
            kind(client, tally, done)
        except BaseException as error:
            tally.problem = error

    threads = [threading.Thread(target=run, args=each) for each in work]
    for thread in threads:
        thread.start()
    # when their server is killed, or stopped, again and again
    deadline = time.monotonic() + duration_s
    restarts = 0
    while time.monotonic() < deadline:
        time.sleep(0.02 + 3 * chance.random() ** 3)  # not to wait for anything: this is the moment
        servers.restart(signal.SIGTERM if chance.random() < 0.25 else signal.SIGKILL)
        restarts += 1
    done.set()
    for thread in threads:
        thread.join(100)
    hung = [thread.name for thread in threads if thread.is_alive()]
    for client in clients:
        client.close()
    servers.end()
    # then they all went on to the end
    assert not hung
    assert [(kind.__name__, tally.problem) for kind, _, tally in work if tally.problem] == []
    # each item that is missing was counted, and none was inserted twice
    arrived: set[int] = set()
    before: list[int] = []
    for log in sorted(tmp_path.iterdir()):
        here = np.frombuffer(log.read_bytes(), np.uint64).tolist()
        assert len({*before, *here}) == len(before) + len(here)
        arrived.update(here)
        before = here
    unsaid = {(kind.__name__, number): tally.unsaid(arrived) for number, (kind, _, tally) in enumerate(work)}
    assert not any(missing > 0 for missing in unsaid.values()), unsaid
    made, lost = sum(len(tally.keys) for _, _, tally in work), sum(tally.lost for _, _, tally in work)
    assert made > 0
    print(f"{restarts} restarts, {made} items made, {lost} counted as lost")
