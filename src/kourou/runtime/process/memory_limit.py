"""Watching the memory of nodes that have a limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from kourou.runtime.process import process_table
from kourou.runtime.process.zygote_process import Process
from kourou.shown import size

_PAUSE_S = 0.1  # between looks
_NEAR = 0.9  # of a limit
_SHARE = 0.01  # of a core, which each of the two kinds of looks may take at most


class MemoryLimits:
    """The processes of one supervisor that have a limit, and what is said of those that pass it or come near."""

    def __init__(self) -> None:
        self._watch = MemoryWatch()
        self._processes: dict[int, Process] = {}

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the next look; None: there is nothing to watch."""
        return self._watch.due_in_s

    def add(self, process: Process) -> None:
        """One that exists; without a limit nothing is watched."""
        if process.pid is not None and process.memory_bytes:
            self._processes[process.pid] = process
            self._watch.add(process.pid, process.memory_bytes)

    def discard(self, process: Process) -> None:
        """It has ended."""
        self._watch.discard(process.pid)
        self._processes.pop(process.pid or 0, None)

    def passed(self) -> Iterator[Process]:
        """Those that are past their limits, which is the cause of their ends now: to be killed, and told once."""
        for pid, used_bytes in self._watch.look().items():
            process = self._processes[pid]
            process.cause = f"took {size(used_bytes)} of memory, past {_limit_of(process)}, and was killed"
            self._watch.discard(pid)
            yield process

    def near(self) -> Iterator[tuple[Process, str]]:
        """Those that have come near theirs, once each, with what is said of that."""
        for pid, used_bytes in self._watch.come_near().items():
            process = self._processes[pid]
            yield process, f"takes {size(used_bytes)} of memory, and is killed past {_limit_of(process)}"


def _limit_of(process: Process) -> str:
    return f"its limit of {size(process.memory_bytes or 0)}"


class MemoryWatch:
    """Looks at the memory of processes and all that they started.

    That takes a share of a core at most, however many they are. Who belongs to whom is read of all processes of the
    host at once, and less often than the memory of those that are known.
    """

    def __init__(self) -> None:
        self._limits: dict[int, int] = {}
        self._trees: dict[int, set[int]] = {}
        self._near: dict[int, int] = {}  # bytes of those that are near their limit, told or not
        self._untold: set[int] = set()
        self._next_look = 0.0
        self._next_reading = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the next look; None: there is nothing to watch."""
        return max(0.0, self._next_look - time.monotonic()) if self._limits else None

    def add(self, pid: int, limit_bytes: int) -> None:
        """Watch a process and all below it."""
        self._limits[pid] = limit_bytes
        self._trees[pid] = {pid}

    def discard(self, pid: int | None) -> None:
        """It has ended, or its fate is sealed."""
        if pid in self._limits:
            del self._limits[pid], self._trees[pid]
            self._untold.discard(pid)
            self._near.pop(pid, None)

    def look(self) -> Mapping[int, int]:
        """Who is past its limit, with the bytes that it takes; nobody before the next look is due."""
        if not self._limits or time.monotonic() < self._next_look:
            return {}
        known = time.monotonic() < self._next_reading
        if not known:
            self._read_trees()
        past = self._past()
        if past and known:  # one of those that were known may be another one's by now
            self._read_trees()
            past = self._past()
        return past

    def come_near(self) -> Mapping[int, int]:
        """Who has come near its limit since this was asked last, once each, with the bytes that it takes."""
        told, self._untold = self._untold, set()
        return {pid: self._near[pid] for pid in told}

    def _read_trees(self) -> None:
        begun = time.thread_time()
        table = process_table.ProcessTable()
        self._trees = {pid: {pid, *table.below(pid)} for pid in self._limits}
        self._next_reading = time.monotonic() + (time.thread_time() - begun) / _SHARE

    def _past(self) -> dict[int, int]:
        begun = time.thread_time()
        used = {pid: process_table.memory_bytes(tree) for pid, tree in self._trees.items()}
        self._next_look = time.monotonic() + max(_PAUSE_S, (time.thread_time() - begun) / _SHARE)
        near = {pid: taken for pid, taken in used.items() if taken > _NEAR * self._limits[pid]}
        self._untold |= near.keys() - self._near.keys()
        self._near |= near
        return {pid: taken for pid, taken in near.items() if taken > self._limits[pid]}
