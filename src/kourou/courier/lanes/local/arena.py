"""Shared memory between two processes of a host: one writes into it, the other reads in place.

Each direction of a connection has an arena. Its memory is anonymous (memfd), so it ends with the processes that map
it, however they end, and it never has a name in /dev/shm. It is used again and again, because the kernel needs far
longer to provide fresh pages than a copy into warm ones takes.

The sender's half, ``Arena``, hands out blocks. The receiver's half, ``Window``, maps the segments that it is told of
and lends out their blocks as buffers; when the last user of a buffer is gone, the block is returned.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kourou.courier.wire.buffer_pool import allocate, block_size, loan_type
from kourou.courier.wire.copying import fill, fill_all
from kourou.courier.wire.frames import Buffer
from kourou.errors import ProtocolError

SMALLEST_BLOCK = 64 << 10  # below this, a copy through the socket is cheaper than the bookkeeping
_SLAB_BYTES = 16 << 20  # blocks smaller than this share a segment with others of their size
_UNUSED_S = 10.0  # a segment that was free for so long is given back to the system
_MAX_SEGMENTS = 4096  # that one peer may have announced
_LIMIT_VARIABLE = "KOUROU_ARENA_BYTES"
_DEFAULT_LIMIT = 4 << 30
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def default_limit() -> int:
    """Bytes that one direction of one connection may map: KOUROU_ARENA_BYTES, or a quarter of memory up to 4 GiB."""
    given = os.environ.get(_LIMIT_VARIABLE)
    if given is not None:
        return int(given)
    return min(_DEFAULT_LIMIT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)


def _rounded(size: int) -> int:
    return block_size(max(size, SMALLEST_BLOCK))


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, trackfd=False)
    return mmap.mmap(descriptor, size)  # keeps a descriptor of its own for as long as it lives


class Segment:
    """One piece of shared memory, divided into blocks of one size."""

    def __init__(self, number: int, block_size: int) -> None:
        self.number = number
        self.block_size = block_size
        self.size = block_size * max(1, _SLAB_BYTES // block_size)
        self.descriptor = os.memfd_create("kourou", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, self.size)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)  # so the receiver need not fear a shrinking file
            self.memory = memoryview(_map(self.descriptor, self.size))
        except BaseException:
            os.close(self.descriptor)
            raise
        self.free = list(range(0, self.size, block_size))[::-1]
        self.lent: set[int] = set()
        self.last_used = 0.0


class Arena:
    """The sender's half.

    Args:
        announce: tells the receiver of a new segment, before any block of it is used; False when it cannot now.
        limit: bytes that the segments may have in all.
    """

    def __init__(self, announce: Callable[[Segment], bool], retire: Callable[[int], None], limit: int) -> None:
        self._announce = announce
        self._retire = retire
        self._limit = limit
        self._lock = threading.RLock()  # a signal handler may close what its own thread is about to use
        self._segments: dict[int, Segment] = {}
        self._usable: dict[int, list[Segment]] = {}  # by block size: the segments that have a free block
        self._bytes = 0
        self._numbers = 0
        self._swept = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._bytes

    def place(self, size: int, pieces: Sequence[Buffer]) -> tuple[int, int] | None:
        """Copy bytes into a free block: its (segment, offset). None when they had better go another way."""
        if size < SMALLEST_BLOCK:
            return None
        with self._lock:
            found = self._take(_rounded(size))
        if found is None:
            return None
        segment, offset = found
        places = itertools.pairwise(itertools.accumulate(map(len, pieces), initial=offset))
        memory = segment.memory
        try:
            fill_all([(memory[start:end], piece) for (start, end), piece in zip(places, pieces, strict=True)])
        except BaseException:  # Ctrl-C, most likely
            self.release(segment.number, offset)
            raise
        return segment.number, offset

    def release(self, number: int, offset: int) -> None:
        """The receiver returned a block.

        Raises:
            ProtocolError: it did not have such a block.
        """
        with self._lock:
            segment = self._segments.get(number)
            if segment is None or offset not in segment.lent:
                raise ProtocolError(f"a block was returned that was not lent: {number}, {offset}")
            segment.lent.remove(offset)
            segment.free.append(offset)
            segment.last_used = time.monotonic()
            if len(segment.free) == 1:
                self._usable.setdefault(segment.block_size, []).append(segment)

    def trim(self, unused_s: float = _UNUSED_S) -> None:
        """Give back the segments that have been free for ``unused_s`` seconds."""
        with self._lock:
            self._trim(unused_s)

    def close(self) -> None:
        """Forget everything, and take no more. The receiver's mappings stay valid."""
        with self._lock:
            self._limit = 0
            self._segments.clear()
            self._usable.clear()
            self._bytes = 0

    def _take(self, block_size: int) -> tuple[Segment, int] | None:
        now = time.monotonic()
        if now - self._swept > _UNUSED_S:
            self._swept = now
            self._trim(_UNUSED_S)
        usable = self._usable.get(block_size)
        if not usable:
            segment = self._grow(block_size)
            if segment is None:
                return None
            usable = self._usable.setdefault(block_size, [])
            usable.append(segment)
        segment = usable[-1]
        offset = segment.free.pop()
        if not segment.free:
            usable.pop()
        segment.lent.add(offset)
        segment.last_used = now
        return segment, offset

    def _grow(self, block_size: int) -> Segment | None:
        size = block_size * max(1, _SLAB_BYTES // block_size)
        if self._bytes + size > self._limit or len(self._segments) >= _MAX_SEGMENTS:
            self._trim(0.0)
            if self._bytes + size > self._limit or len(self._segments) >= _MAX_SEGMENTS:
                return None
        try:
            segment = Segment(self._numbers + 1, block_size)
        except OSError:  # no descriptors or no memory: the socket still works
            return None
        self._numbers += 1
        try:
            if not self._announce(segment):
                return None
        finally:
            os.close(segment.descriptor)
        self._segments[segment.number] = segment
        self._bytes += segment.size
        return segment

    def _trim(self, unused_s: float) -> None:
        now = time.monotonic()
        for segment in [one for one in self._segments.values() if not one.lent and now - one.last_used >= unused_s]:
            del self._segments[segment.number]
            self._usable[segment.block_size].remove(segment)
            self._bytes -= segment.size
            self._retire(segment.number)


class _Mapping(NamedTuple):
    """A segment as the receiver sees it."""

    memory: mmap.mmap
    block_size: int
    size: int


class Window:
    """The receiver's half.

    Args:
        returned: called, from any thread and from the garbage collector, after a block was put on ``returns``.
        limit: bytes that may be in use in place. Beyond that, buffers are copied out at once, so that a receiver that
            keeps what it gets does not starve the sender of blocks.
    """

    def __init__(self, returned: Callable[[], None], limit: int) -> None:
        self.returns: deque[tuple[int, int]] = deque()  # blocks (segment, offset) that nobody uses any more
        self._returned = returned
        self._limit = limit // 2
        self._mappings: dict[int, _Mapping] = {}
        self._lent: dict[tuple[int, int], int] = {}  # blocks in use and their sizes
        self._bytes = 0

    def attach(self, number: int, size: int, block_size: int, descriptor: int) -> None:
        """Map a segment that the sender announced.

        Raises:
            ProtocolError: it is not what was announced.
        """
        fits = 0 < block_size <= size and size % block_size == 0 and number not in self._mappings
        if not fits or len(self._mappings) >= 2 * _MAX_SEGMENTS:
            raise ProtocolError(f"a segment of {size} bytes in blocks of {block_size}")
        try:
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
            if not sealed or os.fstat(descriptor).st_size != size:
                raise ProtocolError("a segment that could change its size")
            memory = _map(descriptor, size)
        except OSError as error:
            raise ProtocolError(f"a segment that cannot be mapped: {error}") from error
        self._mappings[number] = _Mapping(memory, block_size, size)

    def detach(self, number: int) -> None:
        """The sender will not use a segment any more. What is still in use of it stays valid."""
        self._mappings.pop(number, None)

    def resolve(self, number: int, offset: int, size: int) -> memoryview:
        """The memory of a block, as a buffer that returns it when its last user is gone.

        Raises:
            ProtocolError: there is no such block, or it is in use.
        """
        mapping = self._mappings.get(number)
        key = (number, offset)
        if mapping is None or offset % mapping.block_size or offset >= mapping.size or size > mapping.block_size:
            raise ProtocolError(f"no block at {number}, {offset}")
        if key in self._lent:
            raise ProtocolError(f"the block at {number}, {offset} is in use")
        if self._bytes + mapping.block_size > self._limit:
            self._bytes = sum(list(self._lent.values()))  # exact again: ``take_back`` cannot lock, and may lose a count
        if self._bytes + mapping.block_size > self._limit:
            copy = allocate(size)
            fill(copy, memoryview(mapping.memory)[offset : offset + size])
            self.returns.append(key)
            self._returned()
            return copy
        loan = loan_type(mapping.block_size).from_buffer(mapping.memory, offset)
        loan.owner, loan.key = self, key
        self._lent[key] = mapping.block_size
        self._bytes += mapping.block_size
        return pickle.PickleBuffer(loan).raw()[:size]  # raw(): plain bytes, where ctypes has a format of its own

    def take_back(self, key: tuple[int, int]) -> None:
        """The last user of a block is gone. Called by the garbage collector, so it takes no lock."""
        self._bytes -= self._lent.pop(key, 0)
        self.returns.append(key)
        self._returned()
