"""What is in a slot: the sizes of the buffers, the pickle that refers to them, and the buffers themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kourou.courier.wire import codec
from kourou.courier.wire.copying import fill
from kourou.courier.wire.frames import Buffer

__all__ = ["Contents", "pack", "unpack"]

_ALIGNMENT = 64  # of buffers: what arithmetic on vectors likes best


class Contents(NamedTuple):
    """A version as bytes.

    Attributes:
        body: the pickle.
        buffers: the arrays' memory, in the order in which the pickle asks for it.
    """

    body: Buffer
    buffers: Sequence[Buffer]

    @classmethod
    def of(cls, weights: object) -> Contents:
        """Pickle weights; the buffers alias their memory.

        Raises:
            SerializationError: a part cannot be pickled; names it by its path.
        """
        payload = codec.encode_call((weights,), {}, "publish")
        body = b"".join(payload.body) if isinstance(payload.body, tuple) else payload.body
        return cls(body, payload.buffers)

    def restored(self) -> object:
        """The weights; their arrays alias the buffers."""
        (weights,), _ = codec.decode_call(bytes(self.body), self.buffers)
        return weights

    @property
    def total_bytes(self) -> int:
        """What it takes in a slot."""
        *_, (start, size) = _spans(len(self.body), [len(buffer) for buffer in self.buffers])
        return start + size


def pack(contents: Contents, memory: memoryview) -> None:
    """Copy a version into memory that has room for it."""
    sizes = [len(buffer) for buffer in contents.buffers]
    memory[: 8 * len(sizes)] = struct.pack(f"<{len(sizes)}Q", *sizes)
    for (start, size), piece in zip(_spans(len(contents.body), sizes), (contents.body, *contents.buffers), strict=True):
        fill(memory[start : start + size], piece)


def unpack(memory: memoryview, body_bytes: int, buffers: int) -> Contents:
    """The version that was packed there; nothing is copied but the pickle."""
    sizes = struct.unpack_from(f"<{buffers}Q", memory)
    body, *rest = (memory[start : start + size] for start, size in _spans(body_bytes, sizes))
    return Contents(bytes(body), rest)


def _spans(body_bytes: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the pickle is, and where each of the buffers is: (start, size)."""
    position = 8 * len(sizes)
    for size in (body_bytes, *sizes):
        yield position, size
        position = -(-(position + size) // _ALIGNMENT) * _ALIGNMENT
