"""The memory of one column: rows of one dtype and shape, that never move once they are written.

On Linux it is a memfd: other processes of the same user map it by way of ``/proc``, and it ends with the last process
that maps it, however that ends. The file is sparse: only rows that were written take memory.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kourou.replay.arrays.array_types import Array, Integers, np
from kourou.replay.storage.layout import ColumnSpec
from kourou.shared_files import OpenedFile, SharedFile

_LARGE_ROW_BYTES = 16 << 10  # below this, the system call costs more than it spares
_MADV_POPULATE_WRITE = (
    23  # Linux 5.14; Python has no name for it, and its own madvise would hold the interpreter's lock
)
_madvise = ctypes.CDLL(None).madvise if sys.platform == "linux" else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsHandle:
    """Where the memory of a column can be mapped from, by processes of the same host and user.

    Attributes:
        file: whose, and which of its files.
        rows: that it has room for now.
        in_memory: and not on a disk, from where a page may have to be read before a part of it is written.
    """

    file: SharedFile
    rows: int
    in_memory: bool


class Rows:
    """A column's memory, in the server.

    Args:
        folder: where a file without a name holds them, so that the system may write what is seldom used to disk and
            take its memory for other things. None keeps them in memory.
    """

    def __init__(self, spec: ColumnSpec, folder: Path | None = None) -> None:
        self._spec = spec
        self._in_memory = folder is None
        self._descriptor: int | None = None
        self.array: Array = _array(spec, bytearray(), 0)
        if sys.platform == "linux" and spec.row_bytes:
            if folder is None:
                self._descriptor = os.memfd_create("kourou-replay", os.MFD_CLOEXEC)
            else:
                self._descriptor = _nameless_file(folder)

    def grow(self, rows: int) -> None:
        """Have room for ``rows``; what is there stays where it is, and arrays taken before stay valid."""
        size = rows * self._spec.row_bytes
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, size)
            self.array = _array(self._spec, mmap.mmap(self._descriptor, size), rows)
            return
        larger = np.zeros((rows, *self._spec.shape), self._spec.dtype)
        larger[: len(self.array)] = self.array
        self.array = larger

    def write(self, rows: Integers, values: Array) -> None:
        """Write rows [n] that lie within ``array``, from values [n, …] of their dtype.

        Raises:
            OSError: the system has no memory left.
        """
        row_bytes = self._spec.row_bytes
        if self._descriptor is None or row_bytes < _LARGE_ROW_BYTES:
            self.array[rows] = values
            return
        values = np.ascontiguousarray(values)
        start = 0
        for end in [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]:  # where a run of rows is over
            _write(self._descriptor, values[start:end], int(rows[start]) * row_bytes)
            start = end

    def handle(self) -> RowsHandle | None:
        """How others map it; None where they cannot."""
        if self._descriptor is None:
            return None
        return RowsHandle(file=SharedFile.of(self._descriptor), rows=len(self.array), in_memory=self._in_memory)

    def close(self) -> None:
        """Let go of the memory. Other processes' mappings stay valid."""
        self.array = _array(self._spec, bytearray(), 0)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def populate(array: Array, blocks: Integers, length: int) -> None:
    """Have the system provide and map the memory of blocks now, all at once instead of page by page when written.

    Where it does not know how, or few blocks follow one another, that is done when they are written.

    Args:
        array: a column.
        blocks: [n], their numbers, in any order.
        length: rows of a block.
    """
    block_bytes = length * array.strides[0] if array.size else 0
    if _madvise is None or not block_bytes or not len(blocks):
        return
    start = array.ctypes.data
    end = start + array.nbytes
    ordered = np.sort(blocks)
    for run in np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1):
        first = start + int(run[0]) * block_bytes
        size = min(first + len(run) * block_bytes, end) - first
        if size >= _LARGE_ROW_BYTES:
            before = first % mmap.PAGESIZE
            _madvise(ctypes.c_void_p(first - before), ctypes.c_size_t(size + before), _MADV_POPULATE_WRITE)


class RowFile:
    """Writes the rows of a column as one writes to a file, for rows of many pages.

    The system neither clears a fresh page first nor maps it into this process, which takes it twice as long as the
    write does. A mapping of the same column shows what was written at once. Nobody should reserve memory ahead of it:
    that takes a lock of the file that it has to wait for, and longer than what it spares.

    Attributes:
        in_memory: as in :class:`RowsHandle`.
    """

    def __init__(self, file: OpenedFile, row_bytes: int, *, in_memory: bool) -> None:
        self._file = file
        self._row_bytes = row_bytes
        self.in_memory = in_memory

    def write(self, row: int, value: Array) -> None:
        """Write a row from an array of its dtype and shape, in C order.

        Raises:
            OSError: the system has no memory left.
        """
        _write(self._file.fileno(), value, row * self._row_bytes)


def open_rows(spec: ColumnSpec, handle: RowsHandle | None) -> RowFile | None:
    """A column as a file; None where that gains nothing, or the system does not let it be opened."""
    if handle is None or spec.row_bytes < _LARGE_ROW_BYTES:
        return None
    try:
        return RowFile(handle.file.open(), spec.row_bytes, in_memory=handle.in_memory)
    except OSError:
        return None


def map_rows(specs: Sequence[ColumnSpec], handles: Sequence[RowsHandle | None]) -> list[Array] | None:
    """The columns of a store as the server has them; None where the system does not let them be mapped."""
    arrays = []
    for spec, handle in zip(specs, handles, strict=True):
        if handle is None:
            if spec.row_bytes:
                return None
            arrays.append(np.empty((1 << 31, *spec.shape), spec.dtype))  # as many as you like: they have no bytes
            continue
        if not handle.rows:
            arrays.append(_array(spec, bytearray(), 0))  # nothing was written yet
            continue
        size = handle.rows * spec.row_bytes
        try:
            file = handle.file.open()
        except OSError:  # another process table, or a policy against it
            return None
        with file:
            if os.fstat(file.fileno()).st_size < size:
                return None
            arrays.append(_array(spec, mmap.mmap(file.fileno(), size), handle.rows))
    return arrays


def _write(descriptor: int, values: Array, offset: int) -> None:
    data = values.reshape(-1).view(np.uint8).data  # not every dtype has a buffer of its own
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(errno.ENOSPC, "no memory left for the rows of a replay store")


def _nameless_file(folder: Path) -> int:
    """A file that is gone as soon as nobody has it open, however that ends."""
    descriptor, name = tempfile.mkstemp(prefix="kourou-replay-", dir=folder)
    Path(name).unlink()
    return descriptor


def _array(spec: ColumnSpec, memory: mmap.mmap | bytearray, rows: int) -> Array:
    if not rows or not spec.row_bytes:
        return np.empty((rows, *spec.shape), spec.dtype)
    array: Array = np.frombuffer(memory, np.uint8).view(spec.dtype).reshape(rows, *spec.shape)
    return array
