"""Reading a board of this host: the latest version is mapped where it is."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kourou.cpython import imported
from kourou.shared_files import SharedFile
from kourou.weights.board import LATEST, SLOT_BITS, Page, Row
from kourou.weights.locks import try_shared
from kourou.weights.readers import Reading, Row as ReaderRow, Who, enrol, readings
from kourou.weights.slot_layout import Contents, unpack

_SLOT = (1 << SLOT_BITS) - 1


class Found(NamedTuple):
    """A version that is there to be read.

    Attributes:
        number: of the publication; they count from 1, on one board.
        version: as its publisher calls it.
        published_ns: when, by this host's monotonic clock.
        contents: its bytes. As long as any of its buffers is in use, nobody writes there.
        memory: all of the slot; None where it was sent.
        at_hand: gives the same memory in a mapping that stays, and so is quicker to read, for as long as ``contents``
            are in use. None where there is none.
    """

    number: int
    version: int
    published_ns: int
    contents: Contents
    memory: memoryview | None = None
    at_hand: Callable[[], memoryview] | None = None


class Standing(Protocol):
    """How things are on a board: its page, or what was told of it."""

    @property
    def closed(self) -> bool:
        """Whether waiting makes no sense any more."""
        ...

    @property
    def publisher(self) -> str:
        """Who published last, in words."""
        ...

    @property
    def offered(self) -> int:
        """Publications so far, those included that were skipped."""
        ...

    @property
    def offered_version(self) -> int:
        """The version of the last of those; 0 before the first."""
        ...


class Reader(Protocol):
    """A board, wherever it is.

    Attributes:
        earlier: publications on the boards of servers that have ended; its subscriber sets that.
    """

    earlier: int

    @property
    def page(self) -> Standing:
        """How things are there, as far as is known."""
        ...

    def latest(self) -> int:
        """The number of the latest publication; 0 before the first."""
        ...

    def newest(self) -> Found | None:
        """The latest version; None before the first."""
        ...

    def exact(self, version: int) -> Found | None:
        """This very version; None if it is not there."""
        ...

    def wait(self, number: int, timeout_s: float) -> None:
        """Return when the latest publication is not this one any more, or so many seconds have passed."""
        ...

    def is_there(self) -> bool:
        """Whether the board is still the one that publishers write to."""
        ...

    def took(self, found: Found, who: Who) -> None:
        """Let the board say who has taken what."""
        ...


class BoardReader:
    """A board of this host.

    A version is mapped so that what its user changes in it is the user's own (copy on write): torch knows no tensors
    that can only be read.

    Raises:
        FileNotFoundError: it cannot be opened.
    """

    def __init__(self, file: SharedFile) -> None:
        self.earlier = 0
        self._file = file
        with file.open() as page:
            self.page = Page(page.fileno(), file.pid)
        self._words = self.page.words
        self._is_enrolled = False
        self._row: ReaderRow | None = None
        self._at_hand: dict[int, memoryview] = {}
        self._files = [self.page.file(slot) for slot in self.page.slots]

    @property
    def latest_row(self) -> Row | None:
        """What the board says of the latest publication; None before the first."""
        word = self._words[LATEST]
        return self.page.row(word & _SLOT) if word else None

    def latest(self) -> int:
        """The number of the latest publication; 0 before the first."""
        return self._words[LATEST] >> SLOT_BITS

    def newest(self) -> Found | None:
        """Map the latest version.

        Raises:
            FileNotFoundError: the board's owner has ended.
            OSError: this process has too many files open, or too little address space.
        """
        while word := self._words[LATEST]:
            found = self._take(word & _SLOT, word >> SLOT_BITS)
            if found is not None:  # else that slot was written anew just now, so there is a later one
                return found
        return None

    def exact(self, version: int) -> Found | None:
        """Map this very version.

        Raises:
            FileNotFoundError: the board's owner has ended.
        """
        for slot in self.page.slots:
            row = self.page.row(slot)
            is_published = 0 < row.number <= self.latest()  # a publisher may have been killed before it was
            if is_published and row.version == version and (found := self._take(slot, row.number)) is not None:
                return found
        return None

    def wait(self, number: int, timeout_s: float) -> None:
        """Return when there is a later publication, or so many seconds have passed, or nobody should wait."""
        self.page.wait(number, timeout_s)

    def is_there(self) -> bool:
        """Whether the board's owner still has it."""
        return self._file.is_there()

    def took(self, found: Found, who: Who) -> None:
        """Write it to the page of those who read."""
        if not self._is_enrolled:
            self._is_enrolled, self._row = True, enrol(self.page.readers, who)
        if self._row is not None:
            self._row.write(found.number, found.version, found.published_ns)

    def readings(self) -> list[Reading]:
        """What all who read took last."""
        return readings(self.page.readers)

    def _take(self, slot: int, number: int) -> Found | None:
        with self._files[slot].open("r") as file:
            if not try_shared(file.fileno()):
                return None
            row = self.page.row(slot)
            if row.number != number:
                return None
            head = file.read(row.head_bytes)  # to touch memory that was just mapped takes longer
            # The mapping keeps the lock for as long as anything uses it, also where its process ends without a word.
            mapping = memoryview(mmap.mmap(file.fileno(), row.total_bytes, access=mmap.ACCESS_COPY))
        at_hand = functools.partial(self._mapped, slot, row) if imported("numpy") is not None else None
        return Found(number, row.version, row.published_ns, unpack(mapping, row.buffers, head), mapping, at_hand)

    def _mapped(self, slot: int, row: Row) -> memoryview:
        """What is in a slot, in a mapping that is kept: to map its pages takes as long as to copy them."""
        from kourou.courier.wire.codec_numpy import as_writable  # noqa: PLC0415 - imports NumPy

        memory = self._at_hand.get(slot)
        if memory is None or len(memory) < row.total_bytes:
            with self._files[slot].open("r") as file:
                mapping = mmap.mmap(file.fileno(), row.total_bytes, access=mmap.ACCESS_READ)
            memory = self._at_hand[slot] = as_writable(mapping)
        return memory[: row.total_bytes]
