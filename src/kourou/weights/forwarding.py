"""Passing versions on from host to host, block by block: what has come is passed on while the rest is still to come."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from kourou import courier
from kourou.weights.messages import Block, Have, Head, News
from kourou.weights.reading import BoardReader

_BLOCK_BYTES = 2 << 20  # what each host adds to the way of the last one, and a turn of several threads
_SLICE_S = 0.1  # of a wait, after which it looks whether anybody waits for it
_SAYS_EVERY_S = 1.0  # so that who follows knows that there is somebody


class Transit:
    """A version that is there, or on its way: its memory, and the digests of the blocks that are there.

    Args:
        head: what it is.
        memory: its bytes, as they come.
        lock: keeps everybody from writing another version there, for as long as it exists.
    """

    def __init__(self, head: Head, memory: memoryview, lock: object) -> None:
        self.head = head
        self._lock = lock
        self.published_ns = time.monotonic_ns() - head.age_ns
        self._memory = memory
        self.digests: list[bytes] = []
        self.dropped = False
        self.changed = threading.Condition()

    @property
    def blocks(self) -> int:
        """How many there are, or will be."""
        return -(-self.head.total_bytes // _BLOCK_BYTES)

    def block(self, index: int) -> memoryview:
        """The memory of one."""
        return self._memory[index * _BLOCK_BYTES : (index + 1) * _BLOCK_BYTES]

    def place(self, block: Block) -> memoryview | None:
        """Where a block that is about to come belongs; None if it does not, or is there."""
        is_ours = (block.board, block.number) == (self.head.board, self.head.number)
        place = self.block(block.position)
        fits = block.data is not None and len(block.data) == len(place)
        return place if is_ours and fits and block.position >= len(self.digests) else None

    def digest(self, index: int, timeout_s: float) -> bytes | None:
        """The digest of a block, once that is there; None if it is not in time."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.digests) > index or self.dropped, timeout_s)
            return self.digests[index] if len(self.digests) > index else None

    def add(self, digest: bytes) -> None:
        """The next block is there."""
        with self.changed:
            self.digests.append(digest)
            self.changed.notify_all()

    def drop(self) -> None:
        """The rest will not come."""
        with self.changed:
            self.dropped = True
            self.changed.notify_all()


class Feed(Protocol):
    """Versions, as they come."""

    def news(self) -> News | None:
        """How things are on the board; None while that is not known."""
        ...

    def after(self, number: int, timeout_s: float) -> Transit | None:
        """The newest publication that is later than one; None if there is none in time."""
        ...


class BoardFeed:
    """What is published on a board of this process.

    Args:
        board: tells it from others.
        reader: of it.
    """

    def __init__(self, board: int, reader: BoardReader) -> None:
        self._board = board
        self._reader = reader

    def news(self) -> News:
        """How things are on the board."""
        page = self._reader.page
        return News(
            board=self._board,
            latest=self._reader.latest(),
            offered=page.offered,
            offered_version=page.offered_version,
            closed=page.closed,
            publisher=page.publisher,
        )

    def after(self, number: int, timeout_s: float) -> Transit | None:
        """The latest version, which nobody overwrites as long as it is in use."""
        reader = self._reader
        if reader.latest() <= number and not reader.page.closed:
            reader.wait(reader.latest(), timeout_s)
        elif reader.page.closed:
            time.sleep(timeout_s)
        found = reader.newest() if reader.latest() > number else None
        if found is None or found.memory is None:
            return None
        head = Head(
            board=self._board,
            number=found.number,
            version=found.version,
            age_ns=time.monotonic_ns() - found.published_ns,
            buffers=len(found.contents.buffers),
            total_bytes=len(found.memory),
        )
        return _Whole(head, found.memory if found.at_hand is None else found.at_hand(), found)


class _Whole(Transit):
    """A version that is there; its digests are made when they are needed."""

    def digest(self, index: int, timeout_s: float) -> bytes | None:
        del timeout_s
        while len(self.digests) <= index:
            self.digests.append(hashlib.sha256(self.block(len(self.digests))).digest())
        return self.digests[index]


def follow(feed: Feed, have: Have) -> Iterator[News | Head | Block]:
    """All that comes, for one relay; the latest version first, if it has not that one.

    It ends with the call; blocks that the relay has are named only.
    """
    cancelled = courier.current_call().cancelled
    board, known, number = have.board, list(have.digests), have.number
    told: News | None = None
    tell_at = 0.0
    while not cancelled.is_set():
        news = feed.news()
        if news is not None and (news != told or time.monotonic() > tell_at):
            told, tell_at = news, time.monotonic() + _SAYS_EVERY_S
            yield news
        if news is not None and news.board != board:  # another server, which counts from 1
            board, known, number = news.board, [], 0
        transit = feed.after(number, _SLICE_S)
        if transit is None or transit.head.board != board:
            continue
        yield dataclasses.replace(transit.head, age_ns=time.monotonic_ns() - transit.published_ns)
        if (transit.head.board, transit.head.number) == (have.board, have.partial):
            known[: len(have.partial_digests)] = have.partial_digests
        sent: list[bytes] = []
        while len(sent) < transit.blocks and not transit.dropped and not cancelled.is_set():
            index = len(sent)
            digest = transit.digest(index, _SAYS_EVERY_S)
            if digest is None:
                if news is not None:
                    yield news  # it takes its time; we are here
                continue
            sent.append(digest)
            data = None if known[index : index + 1] == [digest] else transit.block(index)
            yield Block(transit.head.board, transit.head.number, index, digest, data)
        if len(sent) == transit.blocks:
            known, number = sent, transit.head.number
