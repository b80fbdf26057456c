"""Copies of any size, by one thread or by several."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kourou.courier.wire import copying
from kourou.courier.wire.copying import fill, fill_all

MIB = 1 << 20


def random_bytes(size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [0, 1, 100_000, 256 << 10, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 33 * MIB + 7])
def test_what_is_copied_is_the_same_and_nothing_beside_it_changes(size: int, shift: int) -> None:
    source = random_bytes(size)
    target = np.full(size + 8, 7, np.uint8)
    fill(target.data[shift : shift + size], source.data)
    assert np.array_equal(target[shift : shift + size], source)
    assert set(target[:shift]) | set(target[shift + size :]) == {7}


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 64])
def test_any_number_of_pieces_is_divided_among_the_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    monkeypatch.setattr(copying, "_current_core", lambda: lambda: 0)
    sizes = [0, 3, 5 * MIB, 20_000, *[1 * MIB] * 5, 0, 9 * MIB + 1, 1]
    sources = [random_bytes(size, seed) for seed, size in enumerate(sizes)]
    target = np.zeros(sum(sizes), np.uint8)
    ends = np.cumsum([0, *sizes])
    places = [target.data[start:end] for start, end in itertools.pairwise(ends)]
    shared: list[int] = []

    def copy(numpy: Any, pairs: copying.Pairs) -> None:
        shared.append(sum(len(to) for to, _ in pairs))
        for to, of in pairs:
            to[:] = of

    monkeypatch.setattr(copying, "_copy", copy)
    fill_all([(place, source.data) for place, source in zip(places, sources, strict=True)])
    assert np.array_equal(target, np.concatenate(sources))
    assert len(shared) == min(cores, 4), "one stretch for each core"
    assert max(shared) - min(shared) < len(shared)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 64])
def test_any_number_of_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    monkeypatch.setattr(copying, "_current_core", lambda: lambda: 0)
    monkeypatch.setattr(copying, "_idle", [])
    source, target = random_bytes(17 * MIB), np.zeros(17 * MIB, np.uint8)
    fill(target.data, source.data)
    assert np.array_equal(source, target)
    assert len(copying._idle) == min(cores, 4) - 1, "who helps"


def test_threads_that_copy_at_the_same_time_do_not_mix_up_their_data() -> None:
    def copy(seed: int) -> bool:
        source, target = random_bytes(9 * MIB, seed), np.zeros(9 * MIB, np.uint8)
        for _ in range(5):
            target[:] = 0
            fill(target.data, source.data)
            if not np.array_equal(source, target):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(copy, range(8)))


def test_the_callers_cores_stay_as_they_were() -> None:
    before = os.sched_getaffinity(0)
    source, target = random_bytes(16 * MIB), np.zeros(16 * MIB, np.uint8)
    fill(target.data, source.data)
    assert os.sched_getaffinity(0) == before


def test_a_helper_keeps_no_memory() -> None:
    source, target = bytearray(16 * MIB), bytearray(16 * MIB)
    fill(memoryview(target), memoryview(source))
    for memory in (source, target):
        memory.append(1)  # a BufferError, while anybody holds a view of it
        assert len(memory) == 16 * MIB + 1


_FORKING = """
import os, numpy
from kourou.courier.wire.copying import fill, fill_all

source, target = numpy.arange(16 << 20, dtype=numpy.uint8), numpy.zeros(16 << 20, numpy.uint8)
fill(target.data, source.data)
child = os.fork()
if child == 0:
    target[:] = 0
    fill(target.data, source.data)
    os._exit(0 if numpy.array_equal(source, target) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_finds_helpers_of_its_own() -> None:
    assert subprocess.run([sys.executable, "-c", _FORKING], timeout=60, check=False).returncode == 0
