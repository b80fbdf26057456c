"""Who is connected, and what has to be taken back when they are gone."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from kourou.courier import Cancellation
from kourou.errors import CallCancelled, WriterExpired
from kourou.replay.arrays.array_types import Refs, np
from kourou.replay.protocol.messages import Ticket
from kourou.replay.server.data import DataStore
from kourou.replay.storage.compression import Compression
from kourou.replay.table.lock import TableLock

KEYS_PER_SESSION = 1 << 40
_MOST_SESSIONS = 1 << 23
_UNKNOWN_SESSIONS = 256
_KEEP_ALIVE_WITHIN_S = 30.0  # after it was opened, a session is attended, or its client died in between


class Session:
    """One client.

    Attributes:
        name: what the client calls it; no session of another server has the same, be it one in this one's place.
        number: what its blocks and its keys are counted by; from 1.
        keep_alive: a call of the client's that lasts as long as the client; None until it comes.
        compression: of what is sent to the client.
        pins: by ticket, what the client reads from shared memory.
    """

    def __init__(self, number: int) -> None:
        self.name = secrets.randbits(62)
        self.number = number
        self.opened_at = time.monotonic()
        self.keep_alive: Future[None] | None = None
        self.cancelled: Cancellation | None = None
        self.compression: Compression | None = None
        self.pins: dict[Ticket, Refs] = {}
        self._next: dict[int, int] = {}
        self._early: dict[tuple[int, int], Callable[[], object]] = {}
        self._busy: set[int] = set()  # writers one of whose actions is being done
        self._broken: set[int] = set()  # writers one of whose messages never was carried out
        self._ended = False

    def run_in_order(self, lock: TableLock, order: tuple[int, int], action: Callable[[], object]) -> bool:
        """Do it now if it is its turn, and what waited for it; else leave it to whoever does what comes before.

        An action looks by ``check_not_broken`` whether what came before it was done, and keeps what goes wrong in it to
        itself.

        Returns:
            False when it will never be done: it was done or skipped before, or the same is there already.

        Raises:
            BaseException: what interrupted this thread meanwhile (Ctrl-C, …), once all that was due is done.
        """
        writer, number = order
        with lock:
            first = self._next.get(writer, 0)
            if self._ended or number < first or order in self._early:
                return False
            if writer in self._busy or number != first:
                self._early[order] = action
                return True
            self._busy.add(writer)
        todo: Callable[[], object] | None = action
        interrupt: BaseException | None = None
        while todo is not None:
            try:
                todo()
            except BaseException as error:  # noqa: BLE001 - Ctrl-C in this thread: it is raised below
                interrupt = error
            with lock:
                self._early.pop((writer, number), None)  # whoever skipped it while it was done
                number += 1
                self._next[writer] = number
                todo = self._early.pop((writer, number), None)
                if todo is None:
                    self._busy.discard(writer)
        if interrupt is not None:
            raise interrupt
        return True

    def mark_broken(self, writer: int) -> None:
        """A message of this writer was not carried out: what follows it may build on what it said."""
        self._broken.add(writer)

    def check_not_broken(self, writer: int) -> None:
        """See that everything that a writer has said so far was carried out.

        Raises:
            WriterExpired: it was not, or the client is gone.
        """
        if self._ended:
            raise WriterExpired("the session has ended")
        if writer in self._broken:
            raise WriterExpired("an earlier message of this writer could not be carried out")

    def end(self, lock: TableLock) -> None:
        """The client is gone: what waits for its turn has it now, and is refused. The caller holds the lock."""
        self._ended = True
        for action in self._early.values():
            lock.after_release(action)
        self._early.clear()

    @property
    def alive(self) -> bool:
        """Whether the client is still there, as far as is known."""
        if self.cancelled is None:
            return time.monotonic() - self.opened_at < _KEEP_ALIVE_WITHIN_S
        return not self.cancelled.is_set()


class Sessions:
    """All clients.

    Args:
        earlier: number of the last session that its predecessor is known to have had. Keys are made from numbers, so
            this one starts above those; and well above, since there may have been more that nobody knows of. Of a
            predecessor without checkpoints nothing is known: chance keeps this one's keys apart from those that clients
            still have of it.
    """

    def __init__(self, lock: TableLock, data: DataStore, earlier: int = 0) -> None:
        first = max(earlier + _UNKNOWN_SESSIONS, secrets.randbelow(_MOST_SESSIONS // 2))
        self._lock = lock
        self._data = data
        self._numbers = itertools.count(first)
        self._sessions: dict[int, Session] = {}
        self.last_number = first - 1
        self._closed = False

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> Session:
        """A new client."""
        with self._lock:
            self._check_open()
            number = next(self._numbers)
            if number >= _MOST_SESSIONS:
                raise WriterExpired("this server has had more clients than it has keys for")
            self.last_number = number
            session = Session(number)
            self._sessions[session.name] = session
            return session

    def get(self, name: int) -> Session:
        """The session of that name.

        Raises:
            WriterExpired: it has ended, or belongs to another server.
            CallCancelled: the server stops.
        """
        session = self._sessions.get(name)
        if session is None:
            self._check_open()
            raise WriterExpired("the session has ended: its client was given up, or the server was restarted")
        return session

    def keep_alive(self, name: int, cancelled: Cancellation) -> Future[None]:
        """The client's call that lasts as long as it does."""
        with self._lock:
            session = self.get(name)
            session.cancelled = cancelled
            session.keep_alive = Future()
            session.keep_alive.set_running_or_notify_cancel()  # it ends when the session does, not before
            return session.keep_alive

    def pin(self, session: Session, refs: Refs, ticket: Ticket) -> None:
        """What the client will read now: held for it, from now on, until it gives the ticket back.

        Raises:
            WriterExpired: the session has ended meanwhile; the references are still the caller's.
        """
        with self._lock:
            if self.get(session.name) is not session:
                raise WriterExpired("the session has ended")
            session.pins[ticket] = refs

    def unpin(self, session: Session, tickets: Iterable[Ticket]) -> None:
        """The client has read it, or never will."""
        with self._lock:
            for ticket in tickets:
                refs = session.pins.pop(ticket, None)
                if refs is not None:
                    self._data.release(refs)

    def close(self, name: int) -> None:
        """The client is gone: take back what it reads and what it writes to."""
        with self._lock:
            session = self._sessions.pop(name, None)
            if session is None:
                return
            self.unpin(session, list(session.pins))
            for store in self._data.stores:
                blocks = store.owned_by(session.number)
                if len(blocks):
                    store.seal(blocks.astype(np.int32))
            session.end(self._lock)
            keep_alive = session.keep_alive
            if keep_alive is not None:
                self._lock.after_release(lambda: keep_alive.set_result(None))

    def close_dead(self) -> None:
        """Close the sessions of clients that are gone."""
        for session in list(self._sessions.values()):
            if not session.alive:
                self.close(session.name)

    def close_all(self) -> None:
        """The server stops: no session begins any more."""
        self._closed = True
        for name in list(self._sessions):
            self.close(name)

    def _check_open(self) -> None:
        if self._closed:
            raise CallCancelled("the replay server stops")
