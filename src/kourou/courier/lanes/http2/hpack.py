"""Headers of HTTP/2 (HPACK): the hpack library, within limits, and without a secret in anybody's log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import hpack

from kourou.errors import ProtocolError

__all__ = ["HeaderDecoder", "encode"]

_MAX_BYTES = 16 << 10
"""Of a block, and of the headers that it stands for, each with the 32 bytes more that HTTP/2 counts. grpcio takes no
more either; and a block of that size from anybody costs milliseconds, however it is made."""

_log = logging.getLogger("hpack")
if _log.level == logging.NOTSET:  # at DEBUG it logs the headers, and one of them is the token
    _log.setLevel(logging.INFO)


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block that no proxy may put into a table, since one of the headers is a secret, and that needs none itself."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0  # is said in the block, which a reader that allows no table insists on
    return encoder.encode((hpack.NeverIndexedHeaderTuple(*header) for header in headers), huffman=False)


class HeaderDecoder:
    """Reads the blocks that one end sends, all of them and in order: they may refer to what was in earlier ones."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(_MAX_BYTES)

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """The headers of the next block.

        Raises:
            ProtocolError: it is none, or passes the limit; the connection is of no use any more.
        """
        if len(block) > _MAX_BYTES:
            raise ProtocolError(f"{len(block)} bytes of headers; {_MAX_BYTES} are allowed")
        try:
            headers = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as error:  # its words may quote the block
            raise ProtocolError(f"headers that make no sense: {type(error).__name__}") from None
        return [(name.decode(errors="replace"), value.decode(errors="replace")) for name, value in headers]
