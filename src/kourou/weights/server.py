"""The server: owns the boards and the memory of the versions, and reads and writes them for those on other hosts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import courier
from kourou.errors import GraphError
from kourou.shared_files import SharedFile
from kourou.shown import shown
from kourou.weights.board import MOST_KEPT, Board, make_board
from kourou.weights.forwarding import BoardFeed, follow
from kourou.weights.messages import Block, Have, Head, News, Place, Sent
from kourou.weights.readers import Reading, WeightsReport
from kourou.weights.reading import BoardReader
from kourou.weights.saved_versions import load, save
from kourou.weights.slot_layout import Contents
from kourou.weights.writing import BoardWriter

if TYPE_CHECKING:
    from kourou.weights.client import Client

_METHODS = ("open_board", "news", "wait", "fetch", "store", "join", "follow", "report")
_REPORTS_LAST_S = 30.0  # a relay reports every second, unless it has much to do
_SLICE_S = 0.2  # after which a wait looks whether its caller is still there


def check_keep(keep: int) -> int:
    """The argument ``keep``, if it makes sense.

    Raises:
        GraphError: it does not.
    """
    if type(keep) is not int or not 1 <= keep < MOST_KEPT:
        raise GraphError(f"weights: keep is a number of versions from 1 to {MOST_KEPT - 1}, not {shown(keep)}")
    return keep


class _Name:
    """What the server has for one name."""

    def __init__(self, name: str, keep: int) -> None:
        self.board: Board = make_board(keep)
        self.reader = BoardReader(self.board.file)
        self.writer = BoardWriter(name, self.board.file)
        self.feed = BoardFeed(self.board.file.inode, self.reader)
        self.relays: list[str] = []  # addresses of one process of each other host; each follows one before it
        self.followed: dict[str, str | None] = {}  # by which relay it follows, as it was told last; None: the server
        self.elsewhere: dict[str, tuple[float, list[Reading]]] = {}  # by host: when it was told, and what

    def leads_to(self, relay: str, follower: str) -> bool:
        """Whether what a relay follows comes from another one: of those that were said to be lost, some may live."""
        upstream = self.followed.get(follower)
        while upstream not in {None, relay}:
            upstream = self.followed.get(str(upstream))
        return upstream == relay

    def report(self, name: str) -> WeightsReport:
        """What there is, and who has what."""
        reader = self.reader
        last, offered = reader.latest_row, reader.page.offered
        readers = [reading.report(offered, "") for reading in reader.readings()]
        known_from = time.monotonic() - _REPORTS_LAST_S
        for host, (told_at, found) in sorted(self.elsewhere.items()):
            if told_at > known_from:
                readers += [reading.report(offered, host) for reading in found]
        return WeightsReport(
            name=name,
            version=None if last is None else last.version,
            age_s=None if last is None else (time.monotonic_ns() - last.published_ns) / 1e9,
            publisher=reader.page.publisher,
            readers=tuple(readers),
        )


class Server:
    """Serves weights from the moment it is made until ``stop``; also a context manager.

    Args:
        port: of the gRPC lane; None and 0 let the system choose one that is free.
        keep: versions of each name that can be read at any time, the latest included. There is memory for one more.
        host: the address to listen on. Anything but loopback lets other hosts connect.
        token: the secret that clients have to show; by default the user's own.
        checkpoint: a folder for the last version of each name, written when the server stops and read when it starts;
            None for none.
        transport: a :class:`kourou.courier.Server` to answer on, started or not, instead of one of its own. It is
            stopped with this server.
        start: False leaves the start to :meth:`start`, so that :meth:`load` can come before.

    Raises:
        GraphError: ``keep`` is below 1, or far too many.
        WeightsError: the checkpoint is damaged.
        UnsupportedPlatform: this is not Linux.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        keep: int = 2,
        host: str = "127.0.0.1",
        token: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        transport: courier.Server | None = None,
        start: bool = True,
    ) -> None:
        self._keep = check_keep(keep)
        self._names: dict[str, _Name] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        if self._checkpoint is not None:
            self.load(self._checkpoint)
        self._transport = transport or courier.Server("weights", port, host=host, token=token)
        for name in _METHODS:
            self._transport.bind(name, getattr(self, f"_{name}"))
        if start:
            self.start()

    def __enter__(self) -> Server:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer from now on, if it does not yet."""
        if not self._transport.has_started:
            self._transport.start()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the last version of each name to a folder.

        Raises:
            OSError: there is no room, or it may not be written there; the others were written all the same.
        """
        with self._lock:
            names = dict(self._names)
        with contextlib.ExitStack() as each:  # of each, whatever becomes of the others
            for name, known in names.items():
                each.callback(save, Path(folder), name, known.reader)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Publish what :meth:`save` wrote, as old as it is.

        Raises:
            WeightsError: a file is damaged.
        """
        for kept in load(Path(folder)):
            self._of(kept.name).writer.write(kept.contents, kept.version, kept.publisher, 0.0, age_s=kept.age_s)

    @property
    def address(self) -> str:
        """``host:port``, for clients."""
        return self._transport.address

    def localhost_client(self) -> Client:
        """A client of this server, for its own process."""
        from kourou.weights.client import Client  # noqa: PLC0415 - servers need no client

        return Client(self.address, token=self._transport.token)

    def reports(self) -> list[WeightsReport]:
        """The versions that there are, and who has which, how far behind and how old it is."""
        with self._lock:
            known = dict(self._names)
        return [known[name].report(name) for name in sorted(known)]

    def cancel_waits(self) -> None:
        """Let nobody wait for weights from now on: waits end with ``CallCancelled``."""
        with self._lock:
            self._closed = True
            for known in self._names.values():
                known.board.page.close()

    def stop(self) -> None:
        """Answer no more. Views stay valid. May be called twice."""
        self.cancel_waits()
        if self._transport.has_started:
            self._transport.stop(grace_s=0.0)
        with self._lock:  # a handler that is left may still ask for a name
            names = list(self._names.values())
        with contextlib.ExitStack() as after:
            for known in names:
                after.enter_context(known.writer.closing())  # what was published last is saved
                after.callback(known.board.close)
            after.callback(self._names.clear)
            if self._checkpoint is not None:
                self.save(self._checkpoint)

    # -- what clients call ------------------------------------------------------------------------------------------

    def _open_board(self, name: str) -> SharedFile:
        return self._of(name).board.file

    def _news(self, name: str) -> News:
        return self._of(name).feed.news()

    def _wait(self, name: str, number: int, timeout_s: float) -> News:
        known, cancelled = self._of(name), courier.current_call().cancelled
        deadline = time.monotonic() + timeout_s
        while known.reader.latest() == number and not known.reader.page.closed and not cancelled.is_set():
            if (left_s := deadline - time.monotonic()) <= 0:
                break
            known.reader.wait(number, min(left_s, _SLICE_S))
        return known.feed.news()

    def _fetch(self, name: str, version: int | None) -> Sent | None:
        known = self._of(name)
        found = known.reader.newest() if version is None else known.reader.exact(version)
        if found is None:
            return None
        return Sent(
            news=known.feed.news(),
            number=found.number,
            version=found.version,
            age_ns=time.monotonic_ns() - found.published_ns,
            contents=found.contents,
        )

    def _store(
        self, name: str, contents: Contents, version: int | None, publisher: str, wait_s: float, above: int | None
    ) -> int | None:
        return self._of(name).writer.write(contents, version, publisher, wait_s, above=above)

    def _join(self, name: str, address: str, lost: str | None) -> Place:
        known = self._of(name)
        with self._lock:
            if lost in known.relays:
                known.relays.remove(lost)
            if address not in known.relays:
                known.relays.append(address)
            before = reversed(known.relays[: known.relays.index(address)])
            upstream = next((relay for relay in before if not known.leads_to(address, relay)), None)
            known.followed[address] = upstream
            return Place(upstream=upstream, keep=self._keep)

    def _report(self, name: str, host: str, found: list[Reading]) -> None:
        self._of(name).elsewhere[host] = time.monotonic(), found

    def _follow(self, name: str, have: Have) -> Iterator[News | Head | Block]:
        return follow(self._of(name).feed, have)

    def _of(self, name: str) -> _Name:
        with self._lock:
            known = self._names.get(name)
            if known is None:
                known = self._names[name] = _Name(name, self._keep)
                if self._closed:
                    known.board.page.close()
            return known
