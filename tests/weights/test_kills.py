"""Publishers and readers that are killed at any moment: nothing is torn, nothing leaks, nobody hangs."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kourou import courier
from kourou.weights import Client, Relaying, Server
from optional import pytest
from polling import WAIT_S, alive, until

pytestmark = pytest.mark.usefixtures("no_leaks")

FLOATS = 50_000
READERS = 3
KEEP = 2 * READERS + 1  # a reader holds one view while it takes the next


def content(version: int) -> dict[str, Any]:
    array = np.random.default_rng(version).random(FLOATS)
    return {"version": version, "w": array, "checksum": zlib.crc32(array.tobytes())}


def check(weights: Any, version: int) -> None:
    assert weights["version"] == version
    assert zlib.crc32(weights["w"]) == weights["checksum"], f"version {version} is torn"


def publish_on(address: str, lane: str, count: Count) -> None:
    publisher = Client(address, lane="local" if lane == "relay" else lane).publisher()
    version = publisher.last_version() or 0
    while True:
        version += 1
        publisher.publish(content(version), version)
        count.words[count.place] += 1


def read_on(address: str, lane: str, count: Count) -> None:
    relaying = None
    if lane == "relay":  # as if each reader were on a host of its own
        lane, folder = "grpc", count.path.with_name(f"host{count.place}")
        folder.mkdir(exist_ok=True)
        relaying = Relaying(folder=str(folder), serve=lambda: courier.Server("relay"))
    subscriber = Client(address, lane=lane, relaying=relaying).subscriber()
    last = 0
    while True:
        view = subscriber.latest(newer_than=last, timeout_s=None)
        assert view is not None
        assert view.version > last
        last = view.version
        own = {**view.weights, "w": np.zeros(FLOATS)}
        view.load_into(own)
        check(own, last)
        check(view.weights, last)
        count.words[count.place] += 1


class Count:
    """How much a worker has done, in a file that it shares with the test."""

    def __init__(self, path: Path, place: int) -> None:
        with path.open("r+b") as file:
            self.words = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
        self.path = path
        self.place = place


WORK = {"publish": publish_on, "read": read_on}


def be_the_nursery() -> None:
    """Fork a worker for each line: quicker than starting one, which has to import everything first."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        work, address, lane, path, place = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                WORK[work](address, lane, Count(Path(path), int(place)))
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        print(pid, flush=True)


class Team:
    """A publisher and readers that go on for ever; what they have done is counted."""

    def __init__(self, path: Path, address: str, lane: str) -> None:
        path.write_bytes(bytes(4096))
        self.kinds = ["publish", *["read"] * READERS]
        self._line = f"{address} {lane} {path}"
        self._words = Count(path, 0).words
        command = [sys.executable, "-c", "from weights import test_kills; test_kills.be_the_nursery()"]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._nursery = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self._members = [self._start(place) for place in range(len(self.kinds))]

    def _start(self, place: int) -> psutil.Process:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(f"{self.kinds[place]} {self._line} {place}\n")
        self._nursery.stdin.flush()
        return psutil.Process(int(self._nursery.stdout.readline()))

    def all_go_on(self) -> None:
        """Wait until each has done something more."""
        before = list(self._words)
        for place, member in enumerate(self._members):
            until(lambda: self._words[place] > before[place] or not alive(member), WAIT_S, self.kinds[place])  # noqa: B023
            assert alive(member), f"a process that should {self.kinds[place]} has ended by itself"

    def replace(self, place: int) -> None:
        """Kill one, and start another one in its place."""
        self._kill(place)
        self._members[place] = self._start(place)

    def _kill(self, place: int) -> None:
        member = self._members[place]
        assert alive(member)
        member.kill()
        until(lambda: not alive(member), WAIT_S, "the end of a process that was killed")

    def close(self) -> None:
        """Kill them all."""
        for place in range(len(self._members)):
            self._kill(place)
        with self._nursery:
            assert self._nursery.stdin is not None
            self._nursery.stdin.close()
        self._words.release()


@contextlib.contextmanager
def team_of(path: Path, address: str, lane: str) -> Iterator[Team]:
    team = Team(path, address, lane)
    try:
        yield team
    finally:
        team.close()


def memory_bytes() -> int:
    """Of the slots, which this process owns."""
    sizes = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "kourou-weights" in str(path.readlink()):
                status = path.stat()
                sizes[status.st_ino] = 512 * status.st_blocks
    return sum(sizes.values())


def kill_at_random(kills: int, lane: str, path: Path) -> None:
    # given a publisher and some readers that go on and on
    chance = random.Random(kills)
    with Server(keep=KEEP) as server:
        with team_of(path, server.address, lane) as team:
            for _ in range(kills):
                # when one of them is killed in the midst of it, and another one takes its place
                team.all_go_on()
                time.sleep(chance.random() * 0.02)
                team.replace(chance.choice([0, 0, *range(1, len(team.kinds))]))
            # then all the others go on, and none has seen anything torn, or older than before
            team.all_go_on()
        # and with them gone, no slot is still held, and there is no more memory than there should be
        with server.localhost_client() as client:
            publisher, subscriber = client.publisher(), client.subscriber()
            last = publisher.last_version()
            assert last is not None
            held = []
            for version in range(last + 1, last + KEEP + 1):
                assert publisher.publish(content(version), version)
                held.append(subscriber.require(timeout_s=WAIT_S))
            for view in held:
                check(view.weights, view.version)
        assert memory_bytes() <= (KEEP + 1) * FLOATS * 8 * 1.3


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_killed_at_random(lane: str, tmp_path: Path) -> None:
    kill_at_random(8, lane, tmp_path / "done")


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lane", ["local", "grpc", "relay"])
def test_killed_at_two_hundred_random_moments(lane: str, tmp_path: Path) -> None:
    kill_at_random(200, lane, tmp_path / "done")
