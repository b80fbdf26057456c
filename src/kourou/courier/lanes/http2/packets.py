"""Packets of the gRPC lane: pieces of the byte stream of frames, gathered under load and cut when large.

A packet is the protobuf message ``Packet { bytes frames = 1; }``. Its few bytes of header are written here by hand,
because protobuf's own classes would copy the contents twice. On the wire gRPC puts five more bytes before a message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from kourou.errors import ProtocolError

_FIELD = 0x0A  # field 1, length-delimited
_MORE = 0x80  # protobuf's varints: seven bits a byte, and this one in all but the last
_BITS = 0x7F
PACKET_BYTES = 2 << 20  # large enough to make the cost per message vanish, small enough to overlap both ends
_PREFIX = struct.Struct(">BI")  # gRPC's own, before every message: whether it is compressed, and its size
_LONGEST_HEAD = _PREFIX.size + 1 + 10


def _packet_head(size: int) -> bytearray:
    head = bytearray((_FIELD,))
    while size > _BITS:
        head.append(_MORE | (size & _BITS))
        size >>= 7
    head.append(size)
    return head


def plain_message(contents: bytes) -> bytes:
    """A message that is no packet, as it is on the wire."""
    return _PREFIX.pack(0, len(contents)) + contents


def message_of(body: bytes | bytearray) -> bytes:
    """The one message that a body is, which is no packet.

    Raises:
        ProtocolError: it is something else.
    """
    if len(body) < _PREFIX.size or _PREFIX.unpack_from(body) != (0, len(body) - _PREFIX.size):
        raise ProtocolError("not one message, or a compressed one")
    return bytes(body[_PREFIX.size :])


class MessageReader:
    """Takes messages that are no packets out of a stream, as soon as they are complete. They are short."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def unread(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._rest)

    def feed(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The messages that are complete now.

        Raises:
            ProtocolError: one is compressed.
        """
        for piece in pieces:
            self._rest += piece
        while len(self._rest) >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(self._rest)
            if compressed:
                raise ProtocolError("a compressed message, which nobody asked for")
            end = _PREFIX.size + size
            if len(self._rest) < end:
                break
            message = bytes(self._rest[_PREFIX.size : end])
            del self._rest[:end]
            yield message


def message_head(size: int) -> bytes:
    """What comes before a packet's ``size`` bytes of contents on the wire."""
    head = _packet_head(size)
    return _PREFIX.pack(0, len(head) + size) + head


class PacketReader:
    """Takes the contents out of a stream of gRPC messages, as far as they have come."""

    def __init__(self) -> None:
        self.messages = 0  # whose head was complete
        self.left = 0  # bytes of the current packet that are still to come
        self._head = b""

    def consumed(self, count: int) -> None:
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
