"""Scalars and pictures in TensorBoard's event files, written record by record.

The writers of tensorboardX and torch are not used: a thread of theirs holds records back, which are lost with a kill
and stay in it after a fork, and both load torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou.extras import load_extra

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
        self.add_scalars({tag: value}, step, time.time())

    def add_scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write the numbers of a step, which were measured at that time, as :meth:`add_scalar` does.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._add([{"tag": tag, "simple_value": value} for tag, value in values.items()], step, wall_time)

    def add_image(self, tag: str, png: bytes, step: int, wall_time: float) -> None:
        """Write a picture, as :meth:`add_scalar` does a number.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._add([{"tag": tag, "image": {"encoded_image_string": png}}], step, wall_time)

    def _add(self, values: list[dict[str, Any]], step: int, wall_time: float) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}{self._suffix}"
            _append(self._file, wall_time=time.time(), file_version=_VERSION)
        _append(self._file, wall_time=wall_time, step=step, summary={"value": values})


def _append(file: Path, **fields: Any) -> None:
    event = load_extra("tensorboard.compat.proto.event_pb2").Event(**fields)
    with file.open("ab", buffering=0) as stream:
        load_extra("tensorboard.summary.writer.record_writer").RecordWriter(stream).write(event.SerializeToString())
