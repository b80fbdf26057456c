"""Who reads a board: a second page, of a row for each subscriber, which has that row's lock for as long as it is there.

A row is its subscriber's to write, and says what it took last. There is nothing to tidy up: the lock of a process that
has ended is free, and with it the row.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import time
from typing import NamedTuple

from kourou.shared_files import SharedFile
from kourou.weights.locks import is_locked, try_exclusive

MOST_READERS = 1024  # of a board; more are not listed
_WORDS = 6
_ROW_BYTES = 128
_NAME_BYTES = _ROW_BYTES - 8 * _WORDS
PAGE_BYTES = MOST_READERS * _ROW_BYTES


class Who(NamedTuple):
    """A subscriber.

    Attributes:
        name: its node's.
        max_lag, max_age_s: how old what it reads may be; None for any age.
    """

    name: str
    max_lag: int | None
    max_age_s: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What a subscriber took last.

    Attributes:
        who: it took it.
        pid: its process.
        number, version: of the publication.
        age_s: seconds since that was published.
    """

    who: Who
    pid: int
    number: int
    version: int
    age_s: float

    def report(self, offered: int, host: str) -> ReaderReport:
        """For those who ask; ``offered`` is how many publications there were, ``host`` where that is another one."""
        lag, (name, max_lag, max_age_s) = max(0, offered - self.number), self.who
        why = []
        if max_lag is not None and lag > max_lag:
            why.append(f"more than its max_lag={max_lag}")
        if max_age_s is not None and self.age_s > max_age_s:
            why.append(f"older than its max_age_s={max_age_s:g}")
        return ReaderReport(
            reader=name or "a reader",
            host=host,
            pid=self.pid,
            version=self.version,
            lag=lag,
            age_s=self.age_s,
            too_old=" and ".join(why),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderReport:
    """What a subscriber has, seen from the publisher.

    Attributes:
        reader, pid: its node's name, and its process.
        host: where it is; empty on the weights' own.
        version, age_s: that it took last, and seconds since it was published.
        lag: newer versions.
        too_old: which of its bounds is exceeded; empty for none.
    """

    reader: str
    host: str
    pid: int
    version: int
    lag: int
    age_s: float
    too_old: str

    def __str__(self) -> str:
        host, why = self.host and f"{self.host}: ", self.too_old and f": {self.too_old}"
        has = f"has version {self.version}, {self.lag} behind, {self.age_s:.1f} s old"
        return f"{host}{self.reader} (pid {self.pid}) {has}{why}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """The weights of a name.

    Attributes:
        name: theirs.
        version, age_s, publisher: the latest, how many seconds ago that was published, and by whom; None before that.
        readers: all that took a version and are still there.
    """

    name: str
    version: int | None
    age_s: float | None
    publisher: str
    readers: tuple[ReaderReport, ...]

    def lines(self) -> list[str]:
        """For people."""
        last = "nothing was published"
        if self.version is not None:
            last = f"version {self.version}, {self.age_s:.1f} s old, by {self.publisher}"
        return [f"{self.name}: {line}" for line in (last, *map(str, self.readers))]


class Row:
    """A subscriber's row. Its mapping holds the lock, and so the row, for as long as it is used."""

    def __init__(self, descriptor: int, index: int, who: Who) -> None:
        memory = memoryview(mmap.mmap(descriptor, PAGE_BYTES))[index * _ROW_BYTES : (index + 1) * _ROW_BYTES]
        self._words = memory[: 8 * _WORDS].cast("q")
        memory[8 * _WORDS :] = who.name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
        self._words[0] = 0
        self._words[3] = os.getpid()
        self._words[4] = -1 if who.max_lag is None else who.max_lag
        self._words[5] = -1 if who.max_age_s is None else int(1e9 * who.max_age_s)

    def write(self, number: int, version: int, published_ns: int) -> None:
        """Say what was taken."""
        words = self._words
        words[1], words[2], words[0] = version, published_ns, number


def enrol(file: SharedFile, who: Who) -> Row | None:
    """Take a row; None when all are taken, or the page cannot be opened."""
    try:
        page = file.open()
    except FileNotFoundError:
        return None
    with page:
        index = next((row for row in range(MOST_READERS) if try_exclusive(page.fileno(), row, 1)), None)
        return None if index is None else Row(page.fileno(), index, who)


def readings(file: SharedFile) -> list[Reading]:
    """What all subscribers of a board that are still there took last."""
    with file.open() as opened:
        descriptor = opened.fileno()
        page = memoryview(mmap.mmap(descriptor, PAGE_BYTES, access=mmap.ACCESS_READ))
        found = []
        for index in range(MOST_READERS):
            if not is_locked(descriptor, index, MOST_READERS - index):
                break  # nor is any after it
            if is_locked(descriptor, index, 1):
                found.append(page[index * _ROW_BYTES : (index + 1) * _ROW_BYTES])
        return [reading for row in found if (reading := _reading(row)) is not None]


def _reading(row: memoryview) -> Reading | None:
    number, version, published_ns, pid, max_lag, max_age_ns = row[: 8 * _WORDS].cast("q")
    if not number:
        return None
    who = Who(
        bytes(row[8 * _WORDS :]).rstrip(b"\0").decode(errors="replace"),
        None if max_lag < 0 else max_lag,
        None if max_age_ns < 0 else max_age_ns / 1e9,
    )
    return Reading(who=who, pid=pid, number=number, version=version, age_s=(time.monotonic_ns() - published_ns) / 1e9)
