"""Packets of the gRPC lane: pieces of the byte stream of frames, gathered under load and cut when large.

A packet is the protobuf message ``Packet { bytes frames = 1; }``. Its few bytes of header are written here by hand,
because protobuf's own classes would copy the contents twice. On the wire gRPC puts five more bytes before a message.
"""

from __future__ import annotations

import io
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from kourou.courier.copying import fill
from kourou.courier.frames import Buffer
from kourou.courier.wire import NotSentError
from kourou.errors import ProtocolError

__all__ = ["PACKET_BYTES", "Outbox", "PacketReader", "message_head", "unpack_packet"]

_FIELD = 0x0A  # field 1, length-delimited
_MORE = 0x80  # protobuf's varints: seven bits a byte, and this one in all but the last
_BITS = 0x7F
_LONGEST_SHIFT = 63
PACKET_BYTES = 2 << 20  # large enough to make the cost per message vanish, small enough to overlap both ends
_LARGE_BYTES = 64 << 10  # contents above this size are not copied to join them with others, nor to unpack them
_MAX_QUEUED_BYTES = 32 << 20  # what may wait for a slow peer before its senders have to wait, too
_PREFIX = struct.Struct(">BI")  # gRPC's own, before every message: whether it is compressed, and its size
_LONGEST_HEAD = _PREFIX.size + 1 + 10


def _packet_head(size: int) -> bytearray:
    head = bytearray((_FIELD,))
    while size > _BITS:
        head.append(_MORE | (size & _BITS))
        size >>= 7
    head.append(size)
    return head


def _packet(contents: Sequence[Buffer], size: int) -> bytes:
    return b"".join((_packet_head(size), *contents))


def _large_packet(content: Buffer) -> bytes:
    """A packet of one piece, which is copied without the interpreter's lock: others have bytes to copy, too."""
    head = _packet_head(len(content))
    packet = io.BytesIO(bytes(len(head) + len(content)))
    with packet.getbuffer() as view:
        view[: len(head)] = head
        fill(view[len(head) :], content)
    return packet.getvalue()  # no copy: these bytes have no other owner


def message_head(size: int) -> bytes:
    """What comes before a packet's ``size`` bytes of contents on the wire."""
    head = _packet_head(size)
    return _PREFIX.pack(0, len(head) + size) + head


def unpack_packet(message: bytes) -> bytes | memoryview:
    """The contents of a packet; not copied when they are large.

    Raises:
        ProtocolError: it is not one.
    """
    size, shift, position = 0, 0, 1
    if not message:
        return b""  # an empty message is an empty packet
    while position < len(message) and shift <= _LONGEST_SHIFT:
        byte = message[position]
        size |= (byte & _BITS) << shift
        shift += 7
        position += 1
        if byte < _MORE:
            break
    if message[0] != _FIELD or position + size != len(message):
        raise ProtocolError("a message that is not a packet of frames")
    return message[position:] if size < _LARGE_BYTES else memoryview(message)[position:]


class PacketReader:
    """Takes the contents out of a stream of gRPC messages, as far as they have come."""

    def __init__(self) -> None:
        self.messages = 0  # whose head was complete
        self.left = 0  # bytes of the current packet that are still to come
        self._head = b""

    def took(self, count: int) -> None:
        """So many bytes of the contents were received without ``feed``."""
        self.left -= count

    def feed(self, data: bytes) -> list[bytes]:
        """The contents in ``data``, in pieces.

        Raises:
            ProtocolError: these are no packets.
        """
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end:
            if self.left:
                piece = data[position : position + self.left]
                pieces.append(piece)
                position += len(piece)
                self.left -= len(piece)
                continue
            known = len(self._head)
            head = self._head + data[position : position + _LONGEST_HEAD - known]
            size = self._head_size(head)
            if size:
                self._head = b""
                self.messages += 1
                position += size - known
            else:
                self._head = head
                position = end
        return pieces

    def _head_size(self, head: bytes) -> int:
        """The size of a complete head; 0 while it is not complete. Notes how much follows."""
        if len(head) < _PREFIX.size:
            return 0
        compressed, size = _PREFIX.unpack_from(head)
        if compressed:
            raise ProtocolError("a compressed message, which nobody asked for")
        if not size:
            return _PREFIX.size  # an empty message is an empty packet
        left = shift = 0
        for position in range(_PREFIX.size + 1, len(head)):
            byte = head[position]
            left |= (byte & _BITS) << shift
            shift += 7
            if byte < _MORE:
                if head[_PREFIX.size] != _FIELD or position + 1 - _PREFIX.size + left != size:
                    break
                self.left = left
                return position + 1
        else:
            if len(head) < _LONGEST_HEAD:
                return 0
        raise ProtocolError("a message that is not a packet of frames")


class Outbox:
    """What is to be sent, between the threads that call and the one that feeds gRPC."""

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()  # small contents as they are, to be gathered, and large ones as packets
        self._bytes = 0
        self._closed = False
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._bulk = threading.Lock()  # keeps the pieces of one large frame together

    def put(self, frame: Sequence[Buffer], *, quietly: bool = False) -> None:
        """Queue a frame, given in pieces; waits while the peer is too slow for more. The pieces are copied.

        Args:
            frame: what to send.
            quietly: the caller will ``take`` it again, so nobody has to be woken; unless it is large.

        Raises:
            NotSentError: the stream is closed.
        """
        with self._bulk:
            if len(frame) == 1 and len(frame[0]) < _LARGE_BYTES:
                self._append(frame[0] if isinstance(frame[0], bytes) else bytes(frame[0]), quietly=quietly)
                return
            pieces = _cut(frame)
            self._append(next(pieces))
            try:
                for piece in pieces:
                    self._append(piece)
            except NotSentError as error:
                raise ConnectionResetError(*error.args) from error

    def _append(self, piece: bytes, *, quietly: bool = False) -> None:
        with self._lock:
            while self._bytes >= _MAX_QUEUED_BYTES and not self._closed:
                self._news.notify()
                self._room.wait()
            if self._closed:
                raise NotSentError("the connection is closed")
            self._queue.append(piece)
            self._bytes += len(piece)
            if not quietly:
                self._news.notify()

    def packets(self) -> Iterator[bytes]:
        """Everything that is put, as packets, until the outbox is closed and empty."""
        while self.wait():
            packet = self.take()
            if packet is not None:
                yield packet
                del packet  # or a large one would live until the next one comes

    def wait(self) -> bool:
        """Wait until there is something to ``take``. False when there never will be."""
        with self._lock:
            while not self._queue and not self._closed:
                self._news.wait()
            return bool(self._queue)

    def wake(self) -> None:
        """There is something that was put quietly."""
        with self._lock:
            self._news.notify()

    def take(self) -> bytes | None:
        """What comes next, as a packet; None when there is nothing."""
        with self._lock:
            if not self._queue:
                return None
            contents = [self._queue.popleft()]
            size = len(contents[0])
            packed = size >= _LARGE_BYTES
            while not packed and self._queue and len(self._queue[0]) < _LARGE_BYTES and size < PACKET_BYTES:
                contents.append(self._queue.popleft())
                size += len(contents[-1])
            self._bytes -= size
            self._room.notify_all()
        return contents[0] if packed else _packet(contents, size)

    def close(self) -> None:
        """Take no more; what is queued is still sent."""
        with self._lock:
            self._closed = True
            self._news.notify_all()
            self._room.notify_all()


def _cut(frame: Sequence[Buffer]) -> Iterator[bytes]:
    """A large frame in pieces that fit into packets; those that are large are packets already."""
    for part in frame:
        view = memoryview(part)
        for start in range(0, len(view), PACKET_BYTES):
            piece = view[start : start + PACKET_BYTES]
            yield bytes(piece) if len(piece) < _LARGE_BYTES else _large_packet(piece)
