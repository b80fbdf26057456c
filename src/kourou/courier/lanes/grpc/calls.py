"""A gRPC server of few and quick methods for many clients, all of them in the thread of one event loop.

Request and answer of a method are one message each, or streams that go on for as long as the client lives. The
messages of an answer are made when the client takes them: one that reads slowly, or not at all, costs what its source
keeps for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import logging
import select
import socket
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from kourou.courier.lanes.http2 import tcp
from kourou.courier.lanes.http2.calls import Http2Calls, IncomingCall
from kourou.courier.lanes.http2.control import PREFACE
from kourou.courier.lanes.loop.acceptor import ServedConnection
from kourou.courier.lanes.loop.event_loop import EventLoop
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.lanes.ports import listen
from kourou.courier.serving.workers import WorkerPool
from kourou.shown import described

_log = logging.getLogger("kourou.courier")

_READ_BYTES = 64 << 10
_AT_ONCE_BYTES = 16 << 10  # of a stream, taken from its source before they are sent
_UNKNOWN, _UNIMPLEMENTED, _UNAUTHENTICATED = 2, 12, 16  # statuses of gRPC
_FLUSH_S = 0.5


class Source(Protocol):
    """Where the messages of a stream come from, and where the client's go after the first one."""

    def next_message(self) -> bytes | None:
        """What is to be sent next; None: nothing at present."""

    def take(self, message: bytes) -> None:
        """The client says this as well."""

    def ends(self) -> bool:
        """The client has said all. Whether the answer ends with that."""
        ...

    def close(self) -> None:
        """The client is gone, or the stream has ended."""


Unary: TypeAlias = Callable[[bytes], bytes]
Streaming: TypeAlias = Callable[[bytes, Callable[[], None]], Source]
"""Called with the first message, and with what is to be called, in any thread, when there is a message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Methods:
    """What clients may call, by path, and what they have to show: ``token``, in the header ``token_key``."""

    unary: Mapping[str, Unary]
    streaming: Mapping[str, Streaming]
    token_key: str
    token: str = dataclasses.field(repr=False)


class CallServer:
    """Listens on a port that the system chooses.

    Args:
        methods: which must not wait.
        max_unauthenticated: connections at a time that have not shown the token; of one host, half as many.
    """

    def __init__(self, host: str, methods: Methods, max_unauthenticated: int) -> None:
        self._methods = methods
        self._max_unauthenticated = max_unauthenticated
        listener = listen(host, 0)
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        self._loop = EventLoop(WorkerPool(1, 1, "kourou-calls"))  # which gets nothing to do
        self.also_listen(listener)

    def also_listen(self, listener: socket.socket) -> None:
        """Serve those who connect here, too."""
        call_soon, methods = self._loop.call_soon, self._methods

        def make_connection(accepted: socket.socket, poller: Poller, _loop_thread: int) -> _Connection:
            return _Connection(tcp.serve(accepted, None), poller, call_soon, methods)

        self._loop.listen(listener, make_connection, self._max_unauthenticated)

    def close(self) -> None:
        """End all connections."""
        self._loop.stop(_FLUSH_S)


class _Connection(ServedConnection):
    """Everything here happens in the loop's thread, and calls are acted on as they are read."""

    def __init__(
        self, sock: tcp.TcpSocket, poller: Poller, call_soon: Callable[[Callable[[], None]], None], methods: Methods
    ) -> None:
        super().__init__(sock.fileno(), 0)
        self._socket = sock
        self._poller = poller
        self._call_soon = call_soon
        self._methods = methods
        self._http2 = Http2Calls(methods.streaming, self._refusal, self._on_message, self._on_end, self._on_gone)
        self._streams: dict[IncomingCall, Source] = {}
        self._preface = PREFACE  # what is still to come of it
        self._unsent = memoryview(Http2Calls.hello)  # with the first answer
        self._has_shown_token = self._waits_for_room = self._has_news = self._is_closed = False

    @property
    def is_authenticated(self) -> bool:
        return self._has_shown_token

    # -- reading --------------------------------------------------------------------------------------------------

    def read_greeting(self) -> bool:
        self.read()
        return True

    def read(self) -> None:
        data = self._socket.receive(_READ_BYTES)
        if data is None:
            return
        if not data:
            raise ConnectionResetError("the client has gone")
        if self._preface:
            known, data = data[: len(self._preface)], data[len(self._preface) :]
            if not self._preface.startswith(known):
                raise ConnectionResetError("no client of gRPC")
            self._preface = self._preface[len(known) :]
        self._http2.feed(data)
        self.flush()

    def _refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        shown = headers.get(self._methods.token_key, "")
        if not hmac.compare_digest(shown.encode(), self._methods.token.encode()):
            return _UNAUTHENTICATED, "the call did not show this program's token"
        self._has_shown_token = True
        return None

    def _on_message(self, call: IncomingCall, message: bytes) -> None:
        source = self._streams.get(call)
        unary, streaming = self._methods.unary.get(call.path), self._methods.streaming.get(call.path)
        try:
            if source is not None:
                source.take(message)
            elif unary is not None:
                self._http2.answer(call, unary(message))
                self._http2.end(call)
            elif streaming is not None:
                self._streams[call] = streaming(message, self._on_news)
            else:
                self._http2.end(call, _UNIMPLEMENTED, f"there is no method {call.path}")
        except Exception as error:  # noqa: BLE001 - the client's trouble, or ours: it must not end the event loop
            _log.exception("a call of %s failed", call.path)
            self._http2.end(call, _UNKNOWN, described(error))
            self._on_gone(call)

    def _on_end(self, call: IncomingCall) -> None:
        source = self._streams.get(call)
        if source is None or source.ends():
            self._http2.end(call)
            self._on_gone(call)

    def _on_gone(self, call: IncomingCall) -> None:
        source = self._streams.pop(call, None)
        if source is not None:
            source.close()

    # -- writing --------------------------------------------------------------------------------------------------

    def _on_news(self) -> None:
        """A stream has a message. In any thread."""
        if not self._has_news:
            self._has_news = True
            self._call_soon(self._tell_news)

    def _tell_news(self) -> None:
        self._has_news = False
        with contextlib.suppress(OSError):  # it will be noticed when it is read
            self.flush()

    def flush(self) -> None:
        while not (self._is_closed or self._waits_for_room) and (self._unsent or self._gather()):
            try:
                self._unsent = self._unsent[self._socket.send([self._unsent]) :]
            except BlockingIOError:
                self._waits_for_room = True
                self._poller.modify(self.descriptor, select.POLLIN | select.POLLOUT)

    def _gather(self) -> bool:
        """Take what can be sent now, since all before has been. Whether there is any."""
        for call, source in self._streams.items():
            while len(call.unsent) < _AT_ONCE_BYTES and (message := source.next_message()) is not None:
                self._http2.answer(call, message)
        self._unsent = memoryview(self._http2.take())
        return bool(self._unsent)

    def drain(self) -> None:
        self._waits_for_room = False
        self._poller.modify(self.descriptor, select.POLLIN)
        self.flush()

    def try_flush(self) -> bool:
        self._waits_for_room = False
        with contextlib.suppress(OSError):
            self.flush()
        return not self._waits_for_room

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(OSError, ValueError):
            self._poller.unregister(self.descriptor)
        self._socket.close()
        for source in self._streams.values():
            source.close()
        self._streams.clear()
