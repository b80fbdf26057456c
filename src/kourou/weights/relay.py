"""The relay: what one process of a host does for all readers there. It gets each version once, and passes it on.

The first process of a host that reads weights of another host is its relay. It has a board of its own, which it fills
with what it follows: the relay before it in the chain, or, if it is the first, the server. The other processes of the
host read that board. Who is the relay holds the lock of a file; with it, the role goes to whoever looks next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeAlias

from kourou import courier, threads
from kourou.courier.wire import codec
from kourou.courier.wire.buffer_pool import allocate
from kourou.courier.wire.copying import fill
from kourou.courier.wire.frames import Body, Memory
from kourou.errors import CallCancelled, RpcError, SerializationError, WeightsError
from kourou.shared_files import OpenedFile
from kourou.weights.board import Board, Page, make_board
from kourou.weights.forwarding import Transit, follow
from kourou.weights.messages import Block, Have, Head, News, Place
from kourou.weights.readers import readings
from kourou.weights.writing import BoardWriter, Draft

_log = logging.getLogger("kourou.weights")

_SILENT_S = 5.0  # after which the one that is followed is taken for lost: it says something every second
_AGAIN_S = 0.3
_FREE_SLOT_S = 1.0  # how long readers may hold a version up


Dial: TypeAlias = Callable[[str | None, Memory | None], courier.Client]


class _Here(NamedTuple):
    """The board of this host."""

    board: Board
    writer: BoardWriter


class Relay:
    """Follows the weights of a name and has them on a board of this host, until it is closed.

    Args:
        name: of the weights.
        server: for those who follow this relay; started here.
        dial: makes a client of another relay, of its address, or, of None, of the weights' server; and what gives
            memory for what that sends.
        role: the file whose lock makes this the relay; says where the board is. It is closed in the end.
    """

    def __init__(self, name: str, server: courier.Server, dial: Dial, role: OpenedFile) -> None:
        self._name = name
        self._server = server
        self._dial = dial
        self._role = role
        self._here: _Here | None = None
        self._news: News | None = None
        self._keep = 1
        self._coming: tuple[Transit, Draft] | None = None
        self._there: Transit | None = None  # what came last
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._clients: list[courier.Client] = []  # in use
        self._server_calls: courier.Client | None = None
        self._reported: Future[Any] | None = None
        server.bind("follow", lambda _, have: follow(self, have))
        server.start()
        self._thread = threading.Thread(target=self._run, name="kourou-weights-relay", daemon=True)
        threads.start(self._thread)

    def close(self) -> None:
        """Follow no more, and let another process be the relay. Views stay valid."""
        self._closed.set()
        for client in list(self._clients):
            courier.close(client)
        self._server.stop(grace_s=0.0)
        self._thread.join()

    # -- for those who follow ---------------------------------------------------------------------------------------

    def news(self) -> News | None:
        """How things are on the board that is followed, as far as was told."""
        return self._news

    def after(self, number: int, timeout_s: float) -> Transit | None:
        """The newest publication later than one, be it that it has only begun to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest(number) is not None, timeout_s)
            return self._newest(number)

    def _newest(self, number: int) -> Transit | None:
        coming = self._coming
        known = (coming and coming[0], self._there)
        return next((transit for transit in known if transit is not None and transit.head.number > number), None)

    # -- what it follows --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        lost: str | None = None
        try:
            while not self._closed.is_set():
                try:
                    place = self._join(lost)
                except (RpcError, OSError):  # the server has ended, and so have its weights: readers ask it themselves
                    self._let_go()
                    self._closed.wait(_AGAIN_S)
                    continue
                self._keep, lost = place.keep, place.upstream
                try:
                    self._follow(place)
                except WeightsError:  # readers here made it skip a version, so it has less than it is thought to have
                    lost = None
                except (RpcError, OSError) as error:
                    if not self._closed.is_set():
                        whom = lost or "their server"
                        _log.warning("the weights %r came from %s, which was lost: %s", self._name, whom, str(error))
                self._closed.wait(_AGAIN_S if lost is None else 0.0)
        finally:
            self._let_go()
            if self._server_calls is not None:
                courier.close(self._server_calls)
            self._role.close()

    def _join(self, lost: str | None) -> Place:
        with self._client_of(None) as calls:
            place: Place = calls.join(self._name, self._server.address, lost)
            return place

    def _follow(self, place: Place) -> None:
        with (
            self._client_of(place.upstream) as calls,
            contextlib.closing(calls.follow(self._name, self._have())) as all_,
        ):
            for message in all_:
                if isinstance(message, Block):
                    self._add(message)
                elif isinstance(message, Head):
                    self._begin(message)
                else:
                    self._tell(message)

    @contextlib.contextmanager
    def _client_of(self, address: str | None) -> Iterator[Any]:
        client = self._dial(address, self._memory)
        self._clients.append(client)
        try:
            if self._closed.is_set():
                raise CallCancelled("the relay was closed")
            yield courier.with_options(client, timeout_s=_SILENT_S)
        finally:
            self._clients.remove(client)
            courier.close(client)

    def _have(self) -> Have:
        there, coming = self._there, self._coming
        have = Have(board=0 if self._news is None else self._news.board)
        if there is not None:
            have = dataclasses.replace(have, number=there.head.number, digests=tuple(there.digests))
        if coming is not None:
            have = dataclasses.replace(have, partial=coming[0].head.number, partial_digests=tuple(coming[0].digests))
        return have

    def _tell(self, news: News) -> None:
        here = self._here
        if here is None or self._news is None or news.board != self._news.board:
            here = self._renew()
        page = here.board.page
        page.publisher = news.publisher
        page.offer(news.offered, news.offered_version)
        if news.closed:
            page.close()
        with self._changed:
            self._news = news
            self._changed.notify_all()
        self._report(page)

    def _report(self, page: Page) -> None:
        """Tell the server who reads here; nobody waits for that."""
        if self._server_calls is None:
            self._server_calls = self._dial(None, None)
            self._clients.append(self._server_calls)
        if self._reported is None or self._reported.done():
            self._reported = self._server_calls.futures.report(self._name, platform.node(), readings(page.readers))

    def _renew(self) -> _Here:
        """A board for what another server has."""
        self._let_go()
        board = make_board(self._keep + 1)  # one more than the server: who follows may hold one up
        self._here = _Here(board, BoardWriter(self._name, board.file))
        os.pwrite(self._role.fileno(), json.dumps(dataclasses.asdict(board.file)).ljust(200).encode(), 0)
        return self._here

    def _begin(self, head: Head) -> None:
        if self._coming is not None:
            coming = self._coming[0].head
            if (coming.board, coming.number, coming.total_bytes) == (head.board, head.number, head.total_bytes):
                return  # it goes on where it was broken off
        self._drop()
        if self._here is None:
            return
        draft = self._here.writer.draft(head.total_bytes, _FREE_SLOT_S)
        if draft is None:
            self._here.writer.tell_of_skipped(head.version)
            return
        with self._changed:
            self._coming = Transit(head, draft.memory, draft.lock), draft  # who passes it on has the lock, too
            self._changed.notify_all()

    def _memory(self, body: Body, size: int) -> memoryview:
        """Where a block is to be received: where it belongs, if that is known already.

        For whoever reads the connection, ahead of ``_follow``; so what is on its way may not have begun here. No block
        of what was dropped can come: what made it so came before.
        """
        memory, coming = allocate(size), self._coming
        with contextlib.suppress(SerializationError):  # whoever takes it hears of that
            block = codec.decode(body, [memory])
            if coming is not None and isinstance(block, Block):
                return coming[0].place(block) or memory
        return memory

    def _add(self, block: Block) -> None:
        if self._coming is None:
            return
        coming, draft = self._coming
        if block.position < len(coming.digests):
            return
        data, there = block.data, self._there
        if data is None:
            if there is None or there.digests[block.position : block.position + 1] != [block.digest]:
                raise WeightsError(f"block {block.position} of the weights {self._name!r} is not here")
            data = there.block(block.position)
        place = coming.block(block.position)
        if data.obj is not place.obj:  # else it was received there
            fill(place, data)
        coming.add(block.digest)
        if len(coming.digests) == coming.blocks:
            self._publish(coming, draft)

    def _publish(self, whole: Transit, draft: Draft) -> None:
        head = whole.head
        if self._here is not None:
            self._here.writer.publish(draft, head.number, head.version, whole.published_ns, head.buffers)
        with self._changed:
            self._there, self._coming = whole, None
            self._changed.notify_all()

    def _drop(self) -> None:
        """What was on its way will not come."""
        with self._changed:
            dropped, self._coming = self._coming, None
        if dropped is not None:
            dropped[0].drop()

    def _let_go(self) -> None:
        """The board is of no use any more."""
        self._drop()
        self._there = None
        if self._here is not None:
            self._here.board.close()
        self._here = None
