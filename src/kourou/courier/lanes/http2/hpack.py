"""Headers of HTTP/2 (HPACK), within limits, and without a secret in anybody's log.

What this end says are plain literals, and so is what another end of kourou's says: neither needs a table, nor the hpack
library, which is imported when somebody else speaks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kourou.errors import ProtocolError

if TYPE_CHECKING:
    import hpack

_MAX_BYTES = 16 << 10
"""Of a block, and of the headers that it stands for, each with the 32 bytes more that HTTP/2 counts. grpcio takes no
more either; and a block of that size from anybody costs milliseconds, however it is made."""
_EACH_BYTES = 32
_NO_TABLE = 0x20  # its size becomes 0, which a reader that allows no table insists on
_LITERAL = 0x10  # a name and a value follow, which no proxy may put into a table, since one of them is a secret
_LONG = 127  # a length from here on has more bytes; with the bit above it, the text is Huffman's

_log = logging.getLogger("hpack")
if _log.level == logging.NOTSET:  # at DEBUG it logs the headers, and one of them is the token
    _log.setLevel(logging.INFO)


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block that no proxy may put into a table, and that needs none itself."""
    block = bytearray((_NO_TABLE,))
    for header in headers:
        block.append(_LITERAL)
        for text in header:
            data = text.encode()
            block += _length(len(data))
            block += data
    return bytes(block)


def _length(size: int) -> bytes:
    if size < _LONG:
        return bytes((size,))
    size -= _LONG
    written = [_LONG]
    while size > 0x7F:  # noqa: PLR2004 - seven bits a byte
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*written, size))


class HeaderDecoder:
    """Reads the blocks that one end sends, all of them and in order: they may refer to what was in earlier ones."""

    def __init__(self) -> None:
        self._decoder: hpack.Decoder | None = None
        self._has_table = True  # that one is used unless the other end says otherwise

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """The headers of the next block.

        Raises:
            ProtocolError: it is none, or passes the limit; the connection is of no use any more.
        """
        if len(block) > _MAX_BYTES:
            raise ProtocolError(f"{len(block)} bytes of headers; {_MAX_BYTES} are allowed")
        headers = _literals(block) if self._decoder is None else None
        if headers is None:
            headers = self._decode_any(block)
        else:
            self._has_table = False
        return [(name.decode(errors="replace"), value.decode(errors="replace")) for name, value in headers]

    def _decode_any(self, block: bytes) -> list[tuple[bytes, bytes]]:
        import hpack  # noqa: PLC0415 - where all ends are kourou's, nobody needs it

        if self._decoder is None:
            self._decoder = hpack.Decoder(_MAX_BYTES)
            if not self._has_table:
                self._decoder.header_table_size = 0
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.HPACKError as error:  # its words may quote the block
            raise ProtocolError(f"headers that make no sense: {type(error).__name__}") from None


def _literals(block: bytes) -> list[tuple[bytes, bytes]] | None:
    """The headers of a block as ``encode`` makes them, none of its texts being long; None: it is another one."""
    if not block or block[0] != _NO_TABLE:
        return None
    at, end, total = 1, len(block), 0
    texts: list[bytes] = []
    while at < end:
        if block[at] != _LITERAL:
            return None
        at += 1
        for _ in range(2):
            size = block[at] if at < end else _LONG
            at += 1 + size
            if size >= _LONG or at > end:
                return None
            texts.append(block[at - size : at])
            total += size
        total += _EACH_BYTES
    return list(zip(texts[::2], texts[1::2], strict=True)) if total <= _MAX_BYTES else None
