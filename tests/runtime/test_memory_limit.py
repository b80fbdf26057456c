"""Who comes near a memory limit is told once, and who passes it is to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kourou.runtime.process import process_table
from kourou.runtime.process.memory_limit import MemoryLimits
from kourou.runtime.process.zygote_process import Process


@pytest.fixture
def waiting() -> Iterator[int]:
    """A process that takes as much memory all the time."""
    code = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def limited(pid: int, memory_bytes: int) -> MemoryLimits:
    """What watches it."""
    unused: Any = None
    limits = MemoryLimits()
    limits.add(Process(name="a/0", attempt=1, zygote=unused, output=unused, memory_bytes=memory_bytes, pid=pid))
    return limits


def test_a_limit_that_comes_near_is_told_once_and_one_that_is_passed_is_a_cause(waiting: int) -> None:
    used = process_table.memory_bytes({waiting})
    near, far, past = (limited(waiting, bytes_) for bytes_ in (int(used * 1.05), used * 10, used // 2))
    assert (list(near.passed()), list(far.passed())) == ([], [])
    [(_, told)] = near.near()
    assert "is killed past its limit of" in told
    assert list(near.near()) == list(far.near()) == []
    [killed] = past.passed()
    assert "and was killed" in killed.cause
    assert list(past.near()) == []  # which is told in other words
    assert past.due_in_s is None
