"""Values in anonymous files: written once, mapped by everybody of the same host who needs them.

A worker's arguments and its result go this way. Large arrays and tensors are used where they lie: readers share the
pages until one of them writes, so two workers and their launcher hold a state_dict of 500 MB once.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from kourou.courier.wire import codec

_COUNT = struct.Struct("<Q")
_ALIGNMENT = 64  # what torch and NumPy like their arrays to start at
_PIECE_BYTES = 4 << 20
_MOST_AT_ONCE = 1 << 30  # Linux writes no more than 2 GiB in one call


def create() -> int:
    """A new anonymous file; it is gone when the last descriptor and the last map of it are."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("kourou-parcel", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix="kourou-") as file:  # macOS
        return os.dup(file.fileno())


def write(fd: int, payload: codec.Payload) -> None:
    """Write an encoded value. The file is marked as whole at the very end, so a writer that dies leaves nothing.

    Raises:
        OSError: there is no room for it.
    """
    body = payload.body if isinstance(payload.body, tuple) else (payload.body,)
    parts = [(sum(len(piece) for piece in body), body), *((memoryview(b).nbytes, (b,)) for b in payload.buffers)]
    sizes = [size for size, _ in parts]
    header = struct.pack(f"<{len(sizes)}Q", *sizes)
    _write_at(fd, header, _COUNT.size)
    for (_, pieces), offset in zip(parts, _offsets(sizes), strict=True):
        position = offset
        for piece in pieces:
            position = _write_at(fd, piece, position)
    _write_at(fd, _COUNT.pack(len(sizes)), 0)


def read(fd: int) -> Any | None:
    """The value that was written; None when it is not whole. Arrays in it are writable, and private to the reader.

    Raises:
        SerializationError: it cannot be rebuilt here.
    """
    head = os.pread(fd, _COUNT.size, 0)
    if len(head) < _COUNT.size or not (count := _COUNT.unpack(head)[0]):
        return None
    sizes = struct.unpack(f"<{count}Q", os.pread(fd, 8 * count, _COUNT.size))
    offsets = _offsets(sizes)
    if count == 1:
        return codec.decode(_pread(fd, sizes[0], offsets[0]))
    view = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    body, *buffers = (view[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True))
    return codec.decode(bytes(body), buffers)


def pieces(fd: int) -> Iterator[bytes]:
    """The file as it is, to be carried to another host: between two pieces there is room for heartbeats."""
    size = os.fstat(fd).st_size
    for position in range(0, size, _PIECE_BYTES):
        yield _pread(fd, min(_PIECE_BYTES, size - position), position)


def append(fd: int, piece: bytes) -> None:
    """Make a file of what :func:`pieces` gave, one after the other."""
    _write_at(fd, piece, os.fstat(fd).st_size)


def _offsets(sizes: Sequence[int]) -> list[int]:
    offsets = []
    position = _COUNT.size * (1 + len(sizes))
    for size in sizes:
        position += -position % _ALIGNMENT
        offsets.append(position)
        position += size
    return offsets


def _write_at(fd: int, data: Any, position: int) -> int:
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view[:_MOST_AT_ONCE], position)
        view = view[written:]
        position += written
    return position


def _pread(fd: int, size: int, position: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(fd, min(size, _MOST_AT_ONCE), position)):
        parts.append(part)
        size -= len(part)
        position += len(part)
    return b"".join(parts)
