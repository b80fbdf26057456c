"""The scalars in TensorBoard's event files.

A file is a sequence of records (length, checksum, content, checksum), whose contents are TensorBoard's ``Event``
messages. Records are told apart here and not by TensorBoard's loader, which takes twice as long because it computes the
checksums, takes a damaged record for the file's end, and loads TensorFlow where that is installed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kourou.experiments.failures import ResultsError
from kourou.extras import load_extra

EVENT_FILES = "*tfevents*"
"""What the names of event files look like."""

_LENGTH = struct.Struct("<Q")
_CHECKSUM_BYTES = 4


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read all scalars of a folder's event files, or of one file, as ``read_metrics`` has them.

    Returns:
        One dictionary for each step, in order, with ``step``, ``time`` (seconds since 1970, of the last number of the
        step) and the numbers by their tags. A number that was logged twice is the one that was logged last.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ResultsError: it is no event file. A last record that is not whole yet is left out.
        MissingExtra: tensorboard is not installed.
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
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - most of those that import this read no events

    parse = load_extra("tensorboard.compat.proto.event_pb2").Event.FromString
    for content in _contents(file):
        try:
            event = parse(content)
            for value in event.summary.value:
                number = value.simple_value if value.HasField("simple_value") else _tensor_number(value.tensor)
                if number is not None:
                    yield event.step, event.wall_time, value.tag, number
        except (DecodeError, TypeError, ValueError) as error:
            raise ResultsError(f"{file} is no event file of TensorBoard, or is damaged: {error!r}") from error


def _contents(file: Path) -> Iterator[bytes]:
    data = file.read_bytes()
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


def _tensor_number(tensor: Any) -> float | None:
    """The number of a tensor without dimensions; None: it has some, or holds no number."""
    if not tensor.dtype or tensor.tensor_shape.dim:
        return None
    array = load_extra("tensorboard.util.tensor_util").make_ndarray(tensor)
    return float(array) if array.dtype.kind in "iuf" else None
