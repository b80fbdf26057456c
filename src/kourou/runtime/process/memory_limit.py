"""Watching the memory of nodes that have a limit."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kourou.runtime.process import process_table

_PAUSE_S = 0.1  # between looks
_NEAR = 0.9  # of a limit
_SHARE = 0.01  # of a core, which each of the two kinds of looks may take at most


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
