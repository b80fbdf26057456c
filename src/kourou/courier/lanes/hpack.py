"""Headers of HTTP/2 (HPACK), as far as gRPC needs them where no dynamic table is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kourou.errors import ProtocolError

__all__ = ["decode", "encode"]

_NEVER_INDEXED = 0x10
_INDEXED, _INCREMENTAL, _TABLE_SIZE = 0x80, 0x40, 0x20
_HUFFMAN = 0x80
_LAST_STATIC = 61
_STATUSES = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}  # of the static table
_NAMES = {4: ":path", 5: ":path", **dict.fromkeys(_STATUSES, ":status")}  # likewise
_LONGEST_SHIFT = 28


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block of literals, which no proxy may put into a table: one of them is a secret."""
    return b"".join(bytes((_NEVER_INDEXED,)) + _text(name) + _text(value) for name, value in headers)


def decode(block: bytes) -> Iterator[tuple[str, str]]:
    """The headers of a block, as far as grpcio writes them.

    Names of the static table other than ``:status`` and ``:path`` are left out, and so are texts in Huffman's code,
    which grpcio does not use.

    Raises:
        ProtocolError: it is not one, or refers to a dynamic table.
    """
    position = 0
    while position < len(block):
        first = block[position]
        if first & _INDEXED:
            index, position = _integer(block, position, 7)
            name, value = ":status", _STATUSES.get(index, "")
        elif first & _INCREMENTAL or not first & _TABLE_SIZE:
            index, position = _integer(block, position, 6 if first & _INCREMENTAL else 4)
            if index:
                name = _NAMES.get(index, "")
            else:
                name, position = _read_text(block, position)
            value, position = _read_text(block, position)
        else:
            _, position = _integer(block, position, 5)
            continue
        if index > _LAST_STATIC:
            raise ProtocolError(f"a header of entry {index} of a table that was not allowed")
        if name and value:
            yield name, value


def _text(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 0x7F:  # noqa: PLR2004 - what seven bits hold
        return bytes((size,)) + raw
    head = bytearray((0x7F,))
    size -= 0x7F
    while size > 0x7F:  # noqa: PLR2004 - as above
        head.append(0x80 | size & 0x7F)
        size >>= 7
    head.append(size)
    return bytes(head) + raw


def _read_text(block: bytes, position: int) -> tuple[str, int]:
    if position >= len(block):
        raise ProtocolError("headers that are cut off")
    coded = block[position] & _HUFFMAN
    size, position = _integer(block, position, 7)
    if size > len(block) - position:
        raise ProtocolError("headers that are cut off")
    raw = block[position : position + size]
    return "" if coded else raw.decode(errors="replace"), position + size


def _integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    """A number that begins in the low bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    value = block[position] & most
    position += 1
    if value < most:
        return value, position
    for shift in range(0, _LONGEST_SHIFT, 7):
        if position >= len(block):
            break
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, position
    raise ProtocolError("headers with a number that does not end")
