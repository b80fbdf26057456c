"""Watching the memory of nodes that have a limit."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kourou.runtime.process import process_table
from kourou.runtime.process.zygote_process import Process
from kourou.shown import size

_PAUSE_S = 0.1  # between looks
_NEAR = 0.9  # of a limit
_SHARE = 0.01  # of a core, which each of the two kinds of looks may take at most


class MemoryLimits:
    """The processes of one supervisor that have a limit, and what is said of those that pass it or come near.

    Looking at them and all that they started takes a share of a core at most, however many they are. Who belongs to
    whom is read of all processes of the host at once, and less often than the memory of those that are known.
    """

    def __init__(self) -> None:
        self._limited: dict[int, Process] = {}
        self._trees: dict[int, set[int]] = {}
        self._near: dict[int, int] = {}  # bytes of those that are near their limit, told or not
        self._untold: set[int] = set()
        self._next_look = 0.0
        self._next_reading = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the next look; None: there is nothing to watch."""
        return max(0.0, self._next_look - time.monotonic()) if self._limited else None

    def add(self, process: Process) -> None:
        """One that exists; without a limit nothing is watched."""
        if process.pid is not None and process.memory_bytes:
            self._limited[process.pid] = process
            self._trees[process.pid] = {process.pid}

    def discard(self, process: Process) -> None:
        """It has ended, or its fate is sealed."""
        if process.pid is not None and self._limited.get(process.pid) is process:
            del self._limited[process.pid], self._trees[process.pid]
            self._untold.discard(process.pid)
            self._near.pop(process.pid, None)

    def passed(self) -> Iterator[Process]:
        """Those that are past their limits, which is the cause of their ends now: to be killed, and told once."""
        if not self._limited or time.monotonic() < self._next_look:
            return
        known = time.monotonic() < self._next_reading
        if not known:
            self._read_trees()
        past = self._past()
        if past and known:  # one of those that were known may be another one's by now
            self._read_trees()
            past = self._past()
        for process, used_bytes in past:
            process.cause = f"took {size(used_bytes)} of memory, past {_limit_of(process)}, and was killed"
            self.discard(process)
            yield process

    def near(self) -> Iterator[tuple[Process, str]]:
        """Those that have come near theirs, once each, with what is said of that."""
        told, self._untold = self._untold, set()
        for pid in told:
            process = self._limited[pid]
            yield process, f"takes {size(self._near[pid])} of memory, and is killed past {_limit_of(process)}"

    def _read_trees(self) -> None:
        begun = time.thread_time()
        table = process_table.ProcessTable()
        self._trees = {pid: {pid, *table.below(pid)} for pid in self._limited}
        self._next_reading = time.monotonic() + (time.thread_time() - begun) / _SHARE

    def _past(self) -> list[tuple[Process, int]]:
        begun = time.thread_time()
        used = {pid: process_table.memory_bytes(tree) for pid, tree in self._trees.items()}
        self._next_look = time.monotonic() + max(_PAUSE_S, (time.thread_time() - begun) / _SHARE)
        limits = {pid: process.memory_bytes or 0 for pid, process in self._limited.items()}
        near = {pid: taken for pid, taken in used.items() if taken > _NEAR * limits[pid]}
        self._untold |= near.keys() - self._near.keys()
        self._near |= near
        return [(self._limited[pid], taken) for pid, taken in near.items() if taken > limits[pid]]


def _limit_of(process: Process) -> str:
    return f"its limit of {size(process.memory_bytes or 0)}"
