"""Who comes near a memory limit is told once, and who passes it is to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from kourou.runtime.process import process_table
from kourou.runtime.process.memory_limit import MemoryWatch


@pytest.fixture
def waiting() -> Iterator[int]:
    """A process that takes as much memory all the time."""
    code = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_a_limit_that_comes_near_is_told_once_and_one_that_is_passed_each_time(waiting: int) -> None:
    used = process_table.memory_bytes({waiting})
    near, far, past = MemoryWatch(), MemoryWatch(), MemoryWatch()
    near.add(waiting, int(used * 1.05))
    far.add(waiting, used * 10)
    past.add(waiting, used // 2)
    assert (near.look(), far.look(), list(past.look())) == ({}, {}, [waiting])
    assert list(near.come_near()) == [waiting]
    assert near.come_near() == {}
    assert far.come_near() == {}
    past.discard(waiting)  # it is killed, which is told in other words
    assert past.come_near() == {}
