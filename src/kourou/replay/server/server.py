"""The server: tables that clients of other processes insert into and sample from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import courier
from kourou.arguments import warn_ignored
from kourou.replay.arrays.array_types import np
from kourou.replay.server.checkpoints import Checkpointer
from kourou.replay.server.client_sessions import Sessions
from kourou.replay.server.data import DataStore
from kourou.replay.server.service import Service
from kourou.replay.server.snapshot import restore
from kourou.replay.table.info import TableInfo
from kourou.replay.table.lock import TableLock
from kourou.replay.table.table import Table
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.replay.client.client import Client

_METHODS = (
    "keep_alive",
    "checkpoint",
    "close_session",
    "get",
    "insert",
    "keys",
    "mutate_priorities",
    "open_session",
    "open_store",
    "pattern",
    "register",
    "reset",
    "sample",
    "server_info",
    "set_rate_limiter",
    "skip",
    "store_info",
)
_LARGEST_KEPT_BYTES = 31 << 20  # glibc does not look at pieces of 32 MiB and more


class Server:
    """Serves tables from the moment it is made until ``stop``; also a context manager.

    Args:
        tables: at least one; their names differ, and none of them belongs to another server.
        port: of the gRPC lane; None and 0 let the system choose one that is free.
        checkpointer: writes checkpoints when a client asks for one. The latest one, if there is any, is read now.
        host: the address to listen on. Anything but loopback lets other hosts connect.
        token: the secret that clients have to show; by default the user's own.
        transport: a :class:`kourou.courier.Server` to answer on, started or not, instead of one of its own. It is
            stopped with this server.
        spill_dir: a folder on a disk; made if it is not there. The tables' data lies in memory-mapped files there
            (without names, so nothing is left whatever happens), and the system keeps in memory what is in use. By
            default all of it stays in memory. Linux only; elsewhere it is ignored, with a warning.
        fresh: begin empty, whatever checkpoints there are.

    Raises:
        ValueError: no tables, or two of one name.
        TypeError: what was given are no tables.
        CheckpointError: the latest checkpoint cannot be read, or does not fit the tables.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        port: int | None = None,
        checkpointer: Checkpointer | None = None,
        *,
        host: str = "127.0.0.1",
        token: str | None = None,
        transport: courier.Server | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
        fresh: bool = False,
    ) -> None:
        if not isinstance(tables, Iterable) or not all(isinstance(table, Table) for table in tables):
            raise TypeError(f"a replay server takes a list of replay.Table, got {shown(tables)}")
        names = [table.name for table in tables]
        if not names:
            raise ValueError("a replay server has at least one table")
        if len(set(names)) < len(names):
            raise ValueError(f"two tables have the same name: {', '.join(sorted(names))}")
        _keep_freed_memory()
        self._tables = tuple(tables)
        lock = TableLock()
        warn_ignored("data lies in files on Linux only", spill_dir=spill_dir is not None and sys.platform != "linux")
        folder = None if spill_dir is None else Path(spill_dir)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._data = DataStore(lock, folder)
        loaded = None if checkpointer is None or fresh else checkpointer.load()
        sessions = Sessions(lock, self._data, 0 if loaded is None else loaded[0].last_session)
        self._service = Service(self._tables, lock, self._data, sessions, checkpointer)
        if loaded is not None and checkpointer is not None:
            try:
                restore(*loaded, self._tables, self._data, lock, config=checkpointer.config)
            except BaseException:
                self._service.close()
                self._data.close()
                raise
        self._transport = transport or courier.Server("replay", port, host=host, token=token)
        for name in _METHODS:
            self._transport.bind(name, getattr(self._service, name))
        if not self._transport.has_started:
            self._transport.start()

    def __enter__(self) -> Server:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<replay server of {', '.join(table.name for table in self._tables)} at {self.address}>"

    @property
    def tables(self) -> tuple[Table, ...]:
        """What it serves."""
        return self._tables

    @property
    def address(self) -> str:
        """``host:port``, for clients."""
        return self._transport.address

    @property
    def port(self) -> int:
        """The port of the gRPC lane."""
        return self._transport.port

    def localhost_client(self) -> Client:
        """A client of this server, for its own process."""
        from kourou.replay.client.client import Client  # noqa: PLC0415 - servers need no client

        return Client(self.address, token=self._transport.token)

    def info(self) -> dict[str, TableInfo]:
        """All tables as they are now."""
        return self._service.server_info()

    def checkpoint(self) -> str:
        """Write a checkpoint; its folder. Inserts and samples go on meanwhile.

        Raises:
            CheckpointError: the server was made without a checkpointer, or it failed.
        """
        return self._service.checkpoint()

    def cancel_waits(self) -> None:
        """Let nobody wait for a limiter from now on, since whoever could let them go on is about to leave.

        Calls that wait, and later ones that would have to, end with ``CallCancelled``, or with the items that they got.
        What need not wait goes on, but for the iterations of samplers: they end.
        """
        self._service.cancel_waits()

    def stop(self) -> None:
        """Answer no more. Calls that wait end with ``CallCancelled``. May be called twice."""
        self._transport.stop(grace_s=0.0)  # before anything that it answers from is taken apart
        self._service.close()
        self._data.close()

    def wait(self) -> None:
        """Wait until another thread stops it, or for Ctrl-C."""
        self._transport.join()


def _keep_freed_memory() -> None:
    """Have the C library keep the memory of one message for the next.

    glibc gives large pieces back to the system, unless it has seen as large a piece freed before. gRPC asks for memory
    of a message's size again and again, and a third of a server's time between hosts went into providing its pages.
    """
    np.empty(_LARGEST_KEPT_BYTES, np.uint8)
