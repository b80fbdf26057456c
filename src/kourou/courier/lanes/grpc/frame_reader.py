"""Frames out of the body of one gRPC stream. Both ends read them in the same way."""

from __future__ import annotations

from collections.abc import Iterable

from kourou.courier.lanes.http2.framing import Http2
from kourou.courier.lanes.http2.packets import PacketReader
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.wire.frames import Frame, FrameParser, Memory

_READ_BYTES = 64 << 10
_DIRECT_BYTES = 16 << 10  # bulk of which at least so much is to come is read to where it belongs


class FrameReader:
    """For one thread at a time."""

    def __init__(self, sock: TcpSocket, http2: Http2, peer: str, memory: Memory | None = None) -> None:
        self.packets = PacketReader()
        self._socket = sock
        self._http2 = http2
        self._peer = peer
        self._parser = FrameParser() if memory is None else FrameParser(memory=memory)

    @property
    def in_bulk(self) -> bool:
        """Whether the rest of a buffer is to come."""
        return bool(self._parser.filling)

    def read(self) -> list[Frame]:
        """Receive all that ``poll`` has told of, and return the frames that are complete.

        Raises:
            OSError: the connection is gone.
            ProtocolError: what came makes no sense.
        """
        frames = self._read()
        while self._socket.has_buffered:
            frames += self._read()
        return frames

    def _read(self) -> list[Frame]:
        parser = self._parser
        if not parser.filling:
            frames = self.parse(self._http2.feed(self._receive()))
            if parser.filling:
                self._socket.expect(len(parser.sink))
            return frames
        room = min(self._http2.body_left, self.packets.left, len(parser.sink))
        if room >= _DIRECT_BYTES:
            frames = self._read_into(parser.sink[:room])
        else:
            frames = self.parse(self._http2.feed(self._receive()))
        self._socket.expect(len(parser.sink) if parser.filling else 0)
        return frames

    def parse(self, pieces: Iterable[bytes]) -> list[Frame]:
        """The frames that are complete with these pieces of the body."""
        frames: list[Frame] = []
        for piece in pieces:
            for contents in self.packets.feed(piece):
                frames.extend(self._parser.feed(contents))
        return frames

    def receive(self) -> bytes:
        """The bytes that have come, which may be none.

        Raises:
            OSError: the connection is gone.
        """
        data = self._receive()
        while self._socket.has_buffered:
            data += self._receive()
        return data

    def _receive(self) -> bytes:
        data = self._socket.receive(_READ_BYTES)
        if data is None:
            return b""
        if not data:
            raise ConnectionResetError(f"{self._peer} closed the connection")
        return data

    def _read_into(self, sink: memoryview) -> list[Frame]:
        count = self._socket.receive_into(sink)
        if count is None:
            return []
        if not count:
            raise ConnectionResetError(f"{self._peer} closed the connection")
        self._http2.consumed(count)
        self.packets.consumed(count)
        return self._parser.filled(count)
