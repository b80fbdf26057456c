"""The numbers in TensorBoard's event files, read without TensorBoard.

A file is a row of records (length, checksum, content, checksum); a content is an Event in Protocol Buffers' format.
Checksums are not compared: they guard against damaged disks, and computing them here would take most of the time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kourou.experiments.failures import ResultsError

__all__ = ["EVENT_FILES", "read_events"]

EVENT_FILES = "*tfevents*"
"""What the names of event files look like."""

_LENGTH = struct.Struct("<Q")
_CHECKSUM_BYTES = 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Numbers of fields in TensorBoard's messages.
_EVENT_TIME, _EVENT_STEP, _EVENT_SUMMARY = 1, 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1, 2, 8
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT, _TENSOR_INT32, _TENSOR_INT64 = 1, 2, 4, 7, 10
# A tensor's type → how its content is packed, and the field that may hold the number instead.
_TENSOR_TYPES = {1: ("<f", 5), 2: ("<d", 6), 3: ("<i", _TENSOR_INT32), 9: ("<q", _TENSOR_INT64)}


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read all scalars of a folder's event files, or of one file, as ``read_metrics`` has them.

    Returns:
        One dictionary for each step, in order, with ``step``, ``time`` (seconds since 1970, of the last number of the
        step) and the numbers by their tags. A number that was logged twice is the one that was logged last.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ResultsError: it is no event file. A last record that is not whole yet is left out.
    """
    given = Path(path)
    files = sorted(given.glob(EVENT_FILES)) if given.is_dir() else [given]
    if not files:
        raise FileNotFoundError(f"there is no event file in {given}")
    steps: dict[int, dict[str, Any]] = {}
    for file in files:
        for step, time, tag, number in _scalars(file):
            steps.setdefault(step, {"step": step}).update({"time": time, tag: number})
    return [steps[step] for step in sorted(steps)]


def _scalars(file: Path) -> Iterator[tuple[int, float, str, float]]:
    for content in _contents(file):
        try:
            yield from _event_scalars(content)
        except (IndexError, KeyError, TypeError, UnicodeDecodeError, struct.error) as error:
            raise ResultsError(f"{file} is no event file of TensorBoard, or is damaged: {error!r}") from error


def _contents(file: Path) -> Iterator[memoryview]:
    data = memoryview(file.read_bytes())
    start = 0
    while start + _LENGTH.size + _CHECKSUM_BYTES <= len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        first = start + _LENGTH.size + _CHECKSUM_BYTES
        start = first + length + _CHECKSUM_BYTES
        if start > len(data):
            if first == _LENGTH.size + _CHECKSUM_BYTES:  # then not even the record that begins each file is there
                raise ResultsError(f"{file} is no event file of TensorBoard, or its first record is not whole yet")
            return
        yield data[first : first + length]


def _event_scalars(content: memoryview) -> Iterator[tuple[int, float, str, float]]:
    time, step = 0.0, 0
    summaries: list[memoryview] = []
    for field, value in _fields(content):
        if field == _EVENT_TIME:
            (time,) = struct.unpack("<d", value)
        elif field == _EVENT_STEP:
            step = _signed(value)
        elif field == _EVENT_SUMMARY:
            summaries.append(value)
    for summary in summaries:
        for field, value in _fields(summary):
            if field == _SUMMARY_VALUE:
                tag, number = _tag_and_number(value)
                if number is not None:
                    yield step, time, tag, number


def _tag_and_number(content: memoryview) -> tuple[str, float | None]:
    tag, number = "", None
    for field, value in _fields(content):
        if field == _VALUE_TAG:
            tag = bytes(value).decode()
        elif field == _VALUE_SIMPLE:
            (number,) = struct.unpack("<f", value)
        elif field == _VALUE_TENSOR:
            number = _tensor_number(value)
    return tag, number


def _tensor_number(content: memoryview) -> float | None:
    """The number of a tensor without dimensions; None: it has some, or holds no number."""
    fields = dict(_fields(content))
    known = _TENSOR_TYPES.get(fields.get(_TENSOR_TYPE, 0))
    if known is None or len(fields.get(_TENSOR_SHAPE, b"")):
        return None
    packing, field = known
    if _TENSOR_CONTENT in fields:
        packed = fields[_TENSOR_CONTENT]
    elif field in {_TENSOR_INT32, _TENSOR_INT64}:
        value = fields[field]
        return float(_signed(value if isinstance(value, int) else _varint(value, 0)[0]))
    else:
        packed = fields[field]
    (number,) = struct.unpack(packing, packed)
    return float(number)


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """A message's fields: integers as such, all else as bytes."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield field, value
            continue
        if kind == _BYTES:
            length, position = _varint(content, position)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise KeyError(f"wire type {kind}")
        if position + length > len(content):
            raise IndexError("a field is longer than its message")
        yield field, content[position : position + length]
        position += length


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says whether there is more
            return value, position
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
