"""Publishing on a board of this host: a slot that nobody reads is filled, then the board says so."""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from kourou.courier.wire.buffer_pool import block_size
from kourou.errors import VersionError, WeightsError
from kourou.shared_files import OpenedFile, SharedFile
from kourou.weights.board import LATEST, SLOT_BITS, Page, Row
from kourou.weights.locks import alone, processes_that_map, try_exclusive, try_shared
from kourou.weights.slot_layout import Contents, head_bytes, pack

T = TypeVar("T")

_log = logging.getLogger("kourou.weights")

_OTHERS_TAKE_S = 60.0  # publishers of one name take turns; one that takes longer than this was stopped by somebody
_LAST_TAKES_S = 2.0  # a publisher that is at it when the board is closed
_POLL_S = 0.0002
_TELL_EVERY_S = 10.0


class Draft(NamedTuple):
    """A slot that is being written, and then is read here.

    Attributes:
        slot: which.
        memory: of the version.
        lock: the slot's: alone until it is published, and then with those who read it.
    """

    slot: int
    memory: memoryview
    lock: OpenedFile


class BoardWriter:
    """Writes versions; any number of threads and processes may do so, one after the other.

    Locks are of descriptors that are opened for one publication only, and no child of a fork keeps them.

    Args:
        name: of the weights, for messages.
        file: the board's page.

    Raises:
        FileNotFoundError: the page cannot be opened, or its owner has ended.
    """

    def __init__(self, name: str, file: SharedFile) -> None:
        self._name = name
        self._file = file
        self._mappings: dict[int, memoryview] = {}
        self._lock = threading.Lock()
        self._told_at = -_TELL_EVERY_S
        self._skipped = 0
        with file.open() as page:
            self._page = Page(page.fileno(), file.pid)

    def write(
        self,
        contents: Contents,
        version: int | None,
        publisher: str,
        wait_s: float,
        *,
        above: int | None = None,
        age_s: float = 0.0,
    ) -> int | None:
        """Publish: the version; None when all slots are being read.

        Args:
            contents: what to copy.
            version: above all versions that were published before; None for the one after the last and ``above``.
            publisher: who does it, for messages.
            wait_s: how long to wait for a slot.
            above: a version that was published on another board, if any.
            age_s: seconds since it was published, where that was elsewhere.

        Raises:
            VersionError: the version is not above those before.
            FileNotFoundError: the board's owner has ended.
        """
        with self._lock, self._alone():
            page = self._page
            offered = page.offered
            last = page.offered_version if offered else None
            if version is None:
                version = 1 + max((known for known in (last, above) if known is not None), default=0)
            elif last is not None and version <= last:
                raise VersionError(
                    f"version {version} of the weights {self._name!r} is not above {last}, which {page.publisher} "
                    "published before; leave the version out to count on from there"
                )
            number = offered + 1
            page.publisher = publisher
            draft = self.draft(contents.total_bytes, wait_s)
            if draft is None:
                page.offer(number, version)
                self.tell_of_skipped(version)
                return None
            with draft.lock:
                pack(contents, draft.memory)
                published_ns = time.monotonic_ns() - int(1e9 * age_s)
                self.publish(draft, number, version, published_ns, len(contents.buffers))
            return version

    def draft(self, size: int, wait_s: float) -> Draft | None:
        """A slot that nobody reads and that is not the latest, the oldest first, to be written; None if there is none.

        Args:
            size: room that it has to have.
            wait_s: how long to wait for one.
        """
        page = self._page
        word = page.words[LATEST]
        latest = word & ((1 << SLOT_BITS) - 1) if word else None
        numbers = {slot: page.row(slot).number for slot in page.slots if slot != latest}
        for unknown, number in numbers.items():
            if number > word >> SLOT_BITS:  # its publisher was killed before it was the latest
                page.set_number(unknown, 0)
        slots = sorted(numbers, key=numbers.__getitem__)
        locks = {slot: alone(page.file(slot).open()) for slot in slots}
        slot = _within(wait_s, lambda: next((slot for slot in slots if try_exclusive(locks[slot].fileno())), None))
        for other in locks.keys() - {slot}:
            locks[other].close()
        if slot is None:
            return None
        memory = self._memory(slot, size)
        page.set_number(slot, 0)
        return Draft(slot, memory[:size], locks[slot])

    def publish(self, draft: Draft, number: int, version: int, published_ns: int, buffers: int) -> None:
        """Let a slot that was written be the latest. Its memory stays as it is until the draft is closed."""
        old = self._page.row(draft.slot)
        row = Row(
            descriptor=old.descriptor,
            inode=old.inode,
            number=number,
            version=version,
            published_ns=published_ns,
            buffers=buffers,
            total_bytes=len(draft.memory),
            head_bytes=head_bytes(draft.memory),
        )
        self._page.set_row(draft.slot, row)
        try_shared(draft.lock.fileno())
        self._page.publish(number, draft.slot)

    def _memory(self, slot: int, size: int) -> memoryview:
        """A slot's memory, with room for so much; the caller has its lock alone, so it may change its size."""
        with self._page.file(slot).open() as file:  # another one than has the lock, which a mapping would keep
            there = os.fstat(file.fileno()).st_size
            if not size <= there <= 2 * block_size(size):
                self._page.set_number(slot, 0)
                there = block_size(size)
                file.truncate(0)
                file.truncate(there)
            memory = self._mappings.get(slot)
            if memory is None or len(memory) != there:
                memory = self._mappings[slot] = memoryview(mmap.mmap(file.fileno(), there))
        return memory

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While entered, no other process publishes on this board."""
        with alone(self._file.open()) as turn:
            if _within(_OTHERS_TAKE_S, lambda: try_exclusive(turn.fileno()) or None) is None:
                raise WeightsError(
                    f"the weights {self._name!r} cannot be published: another publisher ({self._page.publisher}) has "
                    f"been at it for {_OTHERS_TAKE_S:.0f} s; is it stopped?"
                )
            if not self._file.is_there():
                raise FileNotFoundError(errno.ENOENT, "the board was closed meanwhile", self._file.path)
            yield

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """While entered, nobody publishes, unless it was stopped in the midst of that; who comes hears of it after."""
        with alone(self._file.open()) as turn:
            _within(_LAST_TAKES_S, lambda: try_exclusive(turn.fileno()) or None)
            yield

    def tell_of_skipped(self, version: int) -> None:
        """Warn that a version found no slot; now and then."""
        self._skipped += 1
        now = time.monotonic()
        if now - self._told_at < _TELL_EVERY_S:
            return
        page = self._page
        held = [page.row(slot) for slot in page.slots]
        readers = processes_that_map({row.inode for row in held})
        _log.warning(
            "version %s of the weights %r was skipped (%d so far): readers hold all %d slots (versions %s; pids %s); "
            "let views go once they are loaded, or keep more: keep=%d",
            version,
            self._name,
            self._skipped,
            len(held),
            ", ".join(str(row.version) for row in held),
            ", ".join(map(str, readers)) or "unknown",
            len(held),
        )
        self._told_at = now


def _within(time_s: float, attempt: Callable[[], T | None]) -> T | None:
    """What an attempt gives, made again and again for so long; None if it gave nothing."""
    deadline = time.monotonic() + time_s
    while (result := attempt()) is None and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return result
