"""Scalars in TensorBoard's event files, written without TensorBoard."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

__all__ = ["EventWriter"]

_MASK = 0xA282EAD8  # added to rotated checksums, so that a checksum of data with checksums in it is none of its own
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed
_FIXED64, _BYTES, _FIXED32 = 1, 2, 5


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_table_entry(byte) for byte in range(256))


class EventWriter:
    """Appends scalars to an event file of its own, which is made with the first of them.

    Args:
        folder: where the file goes.
        suffix: of the file's name, for whoever has to find it again.
    """

    def __init__(self, folder: str | os.PathLike[str], suffix: str = "") -> None:
        self._folder = Path(folder)
        self._suffix = suffix
        self._file: Path | None = None

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write a number; it is in the file when this returns.

        Raises:
            OSError: the disk is full, or the like.
        """
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}{self._suffix}"
            self._append(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))
        number = _bytes(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | _FIXED32, value)
        self._append(_double(1, time.time()) + _varint(2 << 3) + _varint(step) + _bytes(5, _bytes(1, number)))

    def _append(self, event: bytes) -> None:
        assert self._file is not None  # noqa: S101 - made by the caller
        length = struct.pack("<Q", len(event))
        with self._file.open("ab", buffering=0) as file:
            file.write(length + _checksum(length) + event + _checksum(event))


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _double(field: int, value: float) -> bytes:
    return struct.pack("<Bd", field << 3 | _FIXED64, value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
