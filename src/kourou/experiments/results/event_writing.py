"""Scalars in TensorBoard's event files, written record by record.

The writers of tensorboardX and torch are not used: a thread of theirs holds records back, which are lost with a kill
and stay in it after a fork, and both load torch.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from kourou.experiments.extras import load_extra

__all__ = ["EventWriter"]

_VERSION = "brain.Event:2"
"""What the first record of each event file says."""


class EventWriter:
    """Appends scalars to an event file of its own, which is made with the first of them.

    Args:
        folder: where the file goes.
        suffix: of the file's name, for whoever has to find it again.

    Raises:
        MissingExtra: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], suffix: str = "") -> None:
        load_extra("tensorboard")
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
            _append(self._file, file_version=_VERSION)
        _append(self._file, step=step, summary={"value": [{"tag": tag, "simple_value": value}]})


def _append(file: Path, **fields: Any) -> None:
    event = load_extra("tensorboard.compat.proto.event_pb2").Event(wall_time=time.time(), **fields)
    with file.open("ab", buffering=0) as stream:
        load_extra("tensorboard.summary.writer.record_writer").RecordWriter(stream).write(event.SerializeToString())
