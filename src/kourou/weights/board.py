"""The board of one name: a page of shared memory that says what was published, and where it is.

It is words of 64 bits. One word, ``LATEST``, is written last and read first; the row of a slot is written only by who
has that slot's lock alone, and may be trusted by who has a lock of it.
"""

from __future__ import annotations

import dataclasses
import functools
import mmap
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kourou.errors import UnsupportedPlatform
from kourou.shared_files import SharedFile
from kourou.weights.readers import PAGE_BYTES

LATEST = 0  # the number of the latest publication << SLOT_BITS | its slot; 0: nothing was published
_OFFERED = 1  # the number of the last publication that found no slot, or that a relay knows of but does not have
_OFFERED_VERSION = 2
_CLOSED = 3  # 1: the program stops, so nobody waits any more
_SLOTS = 4
_READERS_DESCRIPTOR = 5
_READERS_INODE = 6
_BELL = 7  # counts what those who wait are woken for
_FIRST_ROW = 8
_ROW_WORDS = 8
SLOT_BITS = 8
MOST_KEPT = (1 << SLOT_BITS) - 1
_NAME_BYTES = 256  # of who published last, at the end of the page


class Row(NamedTuple):
    """What the board says of a slot.

    Attributes:
        descriptor, inode: of the slot's file, in the board's owner.
        number: of the publication that is in it, from 1; 0 while there is none, or half of one.
        version: as its publisher calls it.
        published_ns: when, by the host's monotonic clock.
        buffers, total_bytes: how many arrays' memory is in the slot, and what all of it takes.
        head_bytes: what comes before the arrays' memory.
    """

    descriptor: int
    inode: int
    number: int
    version: int
    published_ns: int
    buffers: int
    total_bytes: int
    head_bytes: int


_NUMBER = Row._fields.index("number")


class Page:
    """A board's words, mapped: by its owner, by publishers, and by subscribers, who write nothing.

    Args:
        descriptor: of the page's file, open for reading and writing; stays the caller's.
        owner: the process that has the slots' files open.
    """

    def __init__(self, descriptor: int, owner: int) -> None:
        size = os.fstat(descriptor).st_size
        memory = memoryview(mmap.mmap(descriptor, size))
        self.words = memory[: size - _NAME_BYTES].cast("q")
        self._bell = memory[8 * _BELL : 8 * _BELL + 8].cast("i")
        self._text = memory[size - _NAME_BYTES :]
        self._owner = owner

    @property
    def slots(self) -> range:
        """The slots' numbers."""
        return range(self.words[_SLOTS])

    @property
    def offered(self) -> int:
        """Publications so far, those included that found no slot; one that is being written does not count yet."""
        return max(self.words[_OFFERED], self.words[LATEST] >> SLOT_BITS)

    @property
    def offered_version(self) -> int:
        """The version of the last of those; 0 before the first."""
        while True:
            latest = self.words[LATEST]
            if self.words[_OFFERED] > latest >> SLOT_BITS or not latest:
                version = self.words[_OFFERED_VERSION]
            else:
                version = self.row(latest & (1 << SLOT_BITS) - 1).version
            if self.words[LATEST] == latest:  # so nobody has written that row anew
                return version

    @property
    def closed(self) -> bool:
        """Whether waiting for more makes no sense any more."""
        return bool(self.words[_CLOSED])

    def close(self) -> None:
        """Let nobody wait any more."""
        self.words[_CLOSED] = 1
        self._ring()

    def publish(self, number: int, slot: int) -> None:
        """Let a slot be the latest."""
        self.words[LATEST] = number << SLOT_BITS | slot
        self._ring()

    def wait(self, number: int, timeout_s: float) -> None:
        """Return when there is a later publication, or so many seconds have passed, or nobody should wait."""
        deadline = time.monotonic() + timeout_s
        while True:
            rung = self._bell[0]
            if self.words[LATEST] >> SLOT_BITS != number or self.closed:
                return
            if (left_s := deadline - time.monotonic()) <= 0:
                return
            sleep_while(self._bell, rung, left_s)

    def _ring(self) -> None:
        self._bell[0] = (self._bell[0] + 1) & 0x7FFFFFFF
        wake_all(self._bell)

    def row(self, slot: int) -> Row:
        """What the board says of a slot."""
        start = _FIRST_ROW + slot * _ROW_WORDS
        return Row(*self.words[start : start + len(Row._fields)])

    def set_row(self, slot: int, row: Row) -> None:
        """Describe a slot, its number last."""
        self.set_number(slot, 0)
        start = _FIRST_ROW + slot * _ROW_WORDS
        for index, value in enumerate(row):
            if index != _NUMBER:
                self.words[start + index] = value
        self.set_number(slot, row.number)

    def set_number(self, slot: int, number: int) -> None:
        """Say which publication is in a slot; 0 for none."""
        self.words[_FIRST_ROW + slot * _ROW_WORDS + _NUMBER] = number

    def offer(self, number: int, version: int) -> None:
        """Count a publication that is not here, and will not be, or only later."""
        self.words[_OFFERED_VERSION] = version
        self.words[_OFFERED] = number

    def file(self, slot: int) -> SharedFile:
        """The file of a slot."""
        row = self.row(slot)
        return SharedFile(pid=self._owner, descriptor=row.descriptor, inode=row.inode)

    @property
    def readers(self) -> SharedFile:
        """The page of those who read."""
        words = self.words
        return SharedFile(pid=self._owner, descriptor=words[_READERS_DESCRIPTOR], inode=words[_READERS_INODE])

    @property
    def publisher(self) -> str:
        """Who published last, in words; for messages."""
        return bytes(self._text).rstrip(b"\0").decode(errors="replace")

    @publisher.setter
    def publisher(self, text: str) -> None:
        data = text.encode()[:_NAME_BYTES]
        self._text[:] = data + bytes(_NAME_BYTES - len(data))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board, in the process that owns it.

    Attributes:
        page: its words.
        descriptors: of the page's file, of that of its readers, and of the slots'.
    """

    page: Page
    descriptors: tuple[int, ...]

    @property
    def file(self) -> SharedFile:
        """How others open the page."""
        return SharedFile.of(self.descriptors[0])

    def close(self) -> None:
        """Let go of the memory. What others have mapped stays valid."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def make_board(keep: int) -> Board:
    """A board with ``keep`` + 1 empty slots.

    Raises:
        UnsupportedPlatform: the system has no memory without a name, or no locks of open files.
    """
    if sys.platform != "linux":
        raise UnsupportedPlatform("weights are shared through memfd and locks of open files, which only Linux has")
    descriptors: list[int] = []
    try:
        for _ in range(keep + 3):
            descriptors.append(os.memfd_create("kourou-weights", os.MFD_CLOEXEC))  # noqa: PERF401 - none is lost
        os.ftruncate(descriptors[0], 8 * (_FIRST_ROW + (keep + 1) * _ROW_WORDS) + _NAME_BYTES)
        page = Page(descriptors[0], os.getpid())
        os.ftruncate(descriptors[1], PAGE_BYTES)
        page.words[_READERS_DESCRIPTOR], page.words[_READERS_INODE] = descriptors[1], os.fstat(descriptors[1]).st_ino
        for slot, descriptor in enumerate(descriptors[2:]):
            page.set_row(slot, Row(descriptor, os.fstat(descriptor).st_ino, 0, 0, 0, 0, 0, 0))
        page.words[_SLOTS] = keep + 1
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return Board(page=page, descriptors=tuple(descriptors))


_SYSCALLS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_WAIT, _WAKE, _EVERYBODY = 0, 1, (1 << 31) - 1
_NAP_S = 0.001  # where that is not known


def sleep_while(word: memoryview, value: int, timeout_s: float) -> None:
    """Sleep, for so long at most, if a word (of 32 bits, in memory that can be written) is a value. It may be less."""
    futex = _futex()
    if futex is None:
        time.sleep(min(_NAP_S, timeout_s))
    else:
        futex(word, _WAIT, value, timeout_s)


def wake_all(word: memoryview) -> None:
    """Wake all that sleep there, in whatever process."""
    futex = _futex()
    if futex is not None:
        futex(word, _WAKE, _EVERYBODY, 0.0)


@functools.cache
def _futex() -> Callable[[memoryview, int, int, float], None] | None:
    number = _SYSCALLS.get(platform.machine())
    if number is None or sys.maxsize < 1 << 32:  # a system of 64 bits may run programs of 32
        return None
    import ctypes  # noqa: PLC0415 - only for those who publish or wait

    syscall: Any = ctypes.CDLL(None).syscall

    def call(word: memoryview, what: int, value: int, timeout_s: float) -> None:
        whole_s = int(timeout_s)
        timeout = (ctypes.c_int64 * 2)(whole_s, int(1e9 * (timeout_s - whole_s)))
        address = ctypes.c_uint32.from_buffer(word)
        # That the word has changed, a signal or the end of the time is all one: the caller looks again.
        syscall(ctypes.c_long(number), ctypes.byref(address), what, value, ctypes.byref(timeout), None, 0)

    return call
