"""What is in a slot: where the pickle and each buffer begin and end, the pickle, and the buffers it refers to."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kourou.courier.wire import codec
from kourou.courier.wire.copying import fill_all
from kourou.courier.wire.frames import Buffer

_ALIGNMENT = 64  # of buffers: what arithmetic on vectors likes best


class Contents(NamedTuple):
    """A version as bytes.

    Attributes:
        body: the pickle.
        buffers: the arrays' memory, in the order in which the pickle asks for it.
    """

    body: bytes
    buffers: Sequence[Buffer]

    @classmethod
    def of(cls, weights: object) -> Contents:
        """Pickle weights; the buffers alias their memory.

        Raises:
            SerializationError: a part cannot be pickled; names it by its path.
        """
        payload = codec.encode_call((weights,), {}, "publish")
        body = payload.body if isinstance(payload.body, tuple) else (payload.body,)
        return cls(b"".join(body), payload.buffers)

    def restored(self) -> object:
        """The weights; their arrays alias the buffers."""
        (weights,), _ = codec.decode_call(self.body, self.buffers)
        return weights

    @property
    def total_bytes(self) -> int:
        """What it takes in a slot."""
        *_, (start, size) = _spans(len(self.body), [len(buffer) for buffer in self.buffers])
        return start + size


def pack(contents: Contents, memory: memoryview) -> None:
    """Copy a version into memory that has room for it."""
    spans = list(_spans(len(contents.body), [len(buffer) for buffer in contents.buffers]))
    ends = [place for start, size in spans for place in (start, start + size)]
    memory[: 8 * len(ends)] = struct.pack(f"<{len(ends)}Q", *ends)
    pieces = zip(spans, (contents.body, *contents.buffers), strict=True)
    fill_all([(memory[start : start + size], piece) for (start, size), piece in pieces])


def head_bytes(memory: memoryview) -> int:
    """What comes before the buffers of the version that was packed there."""
    end: int = struct.unpack_from("<8xQ", memory)[0]
    return end


def unpack(memory: memoryview, buffers: int, head: bytes | None = None) -> Contents:
    """The version that was packed there; nothing is copied but the pickle.

    Args:
        memory: where it is.
        buffers: how many it has.
        head: its first :func:`head_bytes`, where they are at hand; then none of the memory is looked at.

    Raises:
        ValueError: a part of it is missing.
    """
    first = memory if head is None else head
    ends = struct.unpack_from(f"<{2 * buffers + 2}Q", first)
    if ends[-1] > len(memory):
        raise ValueError(f"there are {len(memory)} of its {ends[-1]} bytes")
    rest = [memory[start:end] for start, end in zip(ends[2::2], ends[3::2], strict=True)]
    return Contents(bytes(first[ends[0] : ends[1]]), rest)


def _spans(body_bytes: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the pickle is, and where each of the buffers is: (start, size)."""
    position = 16 * (len(sizes) + 1)
    for size in (body_bytes, *sizes):
        yield position, size
        position = -(-(position + size) // _ALIGNMENT) * _ALIGNMENT
