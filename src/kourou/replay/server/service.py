"""What a replay server answers: the methods that its clients call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future

from kourou.courier import current_call
from kourou.errors import CheckpointError, TableNotFound
from kourou.replay.arrays.array_types import Floats, Keys
from kourou.replay.protocol.messages import (
    PROBE,
    SessionInfo,
    StoreInfo,
    TableSpec,
)
from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.server.checkpoints import Checkpointer
from kourou.replay.server.client_sessions import KEYS_PER_SESSION, Sessions
from kourou.replay.server.data import DataStore
from kourou.replay.server.inserts import Inserts
from kourou.replay.server.samples import Samples
from kourou.replay.server.snapshot import snapshot_of
from kourou.replay.server.waits import Waits
from kourou.replay.storage.compression import Compression
from kourou.replay.storage.layout import ColumnSpec, Pattern
from kourou.replay.storage.rows import Rows
from kourou.replay.table.info import TableInfo
from kourou.replay.table.lock import TableLock
from kourou.replay.table.table import Table


class Service:
    """What is public is called by clients, but for the end; what may wait returns futures, so that no thread waits."""

    def __init__(
        self,
        tables: Sequence[Table],
        lock: TableLock,
        data: DataStore,
        sessions: Sessions,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._checkpointer = checkpointer
        self._tables = _Tables((table.name, table) for table in tables)
        self._lock = lock
        self._data = data
        self._sessions = sessions
        self._probe = Rows(PROBE)
        self._probe.grow(1)
        self._waits = Waits(self._maintain)
        inserts = Inserts(self._tables, lock, data, sessions, self._waits)
        self.insert, self.skip = inserts.insert, inserts.skip
        samples = Samples(self._tables, lock, data, sessions, self._waits)
        self.sample, self.keys, self.get = samples.sample, samples.keys, samples.get
        for table in tables:
            table.adopt(lock, data)

    # -- sessions -------------------------------------------------------------------------------------------------

    def open_session(self, compression: Compression | None = None) -> SessionInfo:
        """A client begins; this is how the arrays that are sent to it are compressed.

        Raises:
            MissingExtra: the codec is not installed here.
        """
        known = None if compression is None else dataclasses.replace(compression)
        session = self._sessions.open()
        session.compression = known
        specs = {
            name: TableSpec(signature=table.signature, takes_negative=table.takes_negative)
            for name, table in self._tables.items()
        }
        first_key = session.number * KEYS_PER_SESSION
        return SessionInfo(name=session.name, first_key=first_key, tables=specs, probe=self._probe.handle())

    def keep_alive(self, session: int) -> Future[None]:
        """Lasts as long as the client. When this call ends, what the client held is taken back."""
        return self._sessions.keep_alive(session, current_call().cancelled)

    def close_session(self, session: int) -> None:
        """A client ends."""
        self._sessions.close(session)

    # -- layouts: their numbers mean something to one server only, so a session of its is asked for ----------------

    def open_store(self, session: int, columns: tuple[ColumnSpec, ...], length: int) -> StoreInfo:
        """Where steps of that layout are stored."""
        self._sessions.get(session)
        return self.store_info(session, self._data.store(columns, length).number)

    def store_info(self, session: int, store: int) -> StoreInfo:
        """A store as it is now: it may have more room than before."""
        self._sessions.get(session)
        if not 0 <= store < len(self._data.stores):
            raise ValueError(f"there is no store {store}")
        with self._lock:
            found = self._data.stores[store]
            return StoreInfo(
                number=store,
                columns=found.columns,
                length=found.length,
                block_bytes=found.block_bytes,
                handles=tuple(found.handles()),
            )

    def register(self, session: int, pattern: Pattern) -> int:
        """The number of a pattern."""
        self._sessions.get(session)
        return self._data.register(pattern)

    def pattern(self, session: int, pattern: int) -> Pattern:
        """The pattern of that number."""
        self._sessions.get(session)
        if not 0 <= pattern < len(self._data.patterns):
            raise ValueError(f"there is no pattern {pattern}")
        return self._data.patterns[pattern]

    # -- tables ---------------------------------------------------------------------------------------------------

    def mutate_priorities(self, table: str, keys: Keys, priorities: Floats, deletes: Keys) -> int:
        """Delete items, then change priorities; how many of the keys were there."""
        return self._tables[table].mutate(keys, priorities, deletes)

    def reset(self, table: str) -> None:
        """Delete all items of a table and count from 0."""
        self._tables[table].reset()

    def set_rate_limiter(self, table: str, rate_limiter: RateLimiter) -> None:
        """Use another limiter from now on."""
        self._tables[table].set_rate_limiter(rate_limiter)

    def server_info(self) -> dict[str, TableInfo]:
        """All tables as they are now."""
        with self._lock:
            return {name: table.info for name, table in self._tables.items()}

    def checkpoint(self) -> str:
        """Write a checkpoint; its folder. Inserts and samples go on meanwhile.

        Raises:
            CheckpointError: the server has no checkpointer, or it failed.
        """
        if self._checkpointer is None:
            raise CheckpointError("this server was made without a checkpointer")
        cut = snapshot_of(list(self._tables.values()), self._data, self._sessions, self._lock)
        return str(self._checkpointer.save(cut, self._data))

    # -- not for clients ------------------------------------------------------------------------------------------

    def cancel_waits(self) -> None:
        """Let nobody wait for a limiter from now on, and samplers have no more; see ``Server.cancel_waits``."""
        self._waits.allowed = False
        for table in self._tables.values():
            for request in table.waiting:
                if (give_up := request.give_up) is not None:  # it may end meanwhile
                    give_up()

    def close(self) -> None:
        """End the threads, and all sessions."""
        self._waits.stop()
        self._sessions.close_all()
        for table in self._tables.values():
            table.close()
        self._probe.close()

    def _maintain(self) -> None:
        for table in self._tables.values():
            table.maintain()
        self._sessions.close_dead()


class _Tables(dict[str, Table]):
    def __missing__(self, name: str) -> Table:
        raise TableNotFound(f"there is no table {name!r}; there are {', '.join(map(repr, self))}")
