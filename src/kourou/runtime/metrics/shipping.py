"""Metrics of nodes on another host: its agent follows the file there, and the launcher appends what comes to the run's.

The file is what holds rows that wait, so a slow network holds no node up and takes no memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kourou import threads
from kourou.runtime.metrics.images import IMAGES
from kourou.runtime.metrics.reading import RowFollower
from kourou.runtime.metrics.rows import IMAGE, warn
from kourou.runtime.metrics.writing import append

ROWS, PICTURE = "rows", "picture"
"""Kinds of messages: lines; and the path of a picture in the run's folder, with what is in it."""

_EVERY_S = 0.5


class RowSender:
    """Sends what is added to the metrics of a folder, from a thread of its own. Its owner closes it."""

    def __init__(self, folder: Path, send: Callable[..., None]) -> None:
        self._folder = folder
        self._rows = RowFollower(folder)
        self._send = send
        self._paused = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kourou-metrics", daemon=True)
        threads.start(self._thread)

    def pause(self, paused: bool) -> None:  # noqa: FBT001 - see Service.pause_output
        """Send nothing for now, since much waits to be sent; or go on."""
        self._paused = paused

    def flush(self) -> None:
        """Send what is there now: a node has ended, and its rows come before its end."""
        while self._send_some():
            pass

    def close(self) -> None:
        """Send no more."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closed.wait(_EVERY_S):
            while not self._paused and self._send_some():
                pass

    def _send_some(self) -> bool:
        """Send a part of what is there; False: there is nothing."""
        with self._lock:
            lines = self._rows.read_lines()
            if lines:
                self._send_pictures(lines)
                self._send(ROWS, lines)
            return bool(lines)

    def _send_pictures(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if f'"{IMAGE}"'.encode() in line:
                try:
                    file = json.loads(line)[IMAGE]["file"]
                    self._send(PICTURE, file, (self._folder / file).read_bytes())
                except (OSError, ValueError, LookupError, TypeError):
                    continue  # it was deleted, or is none


def receive(folder: str, kind: str, *message: Any) -> None:
    """Add what another host sent to the run's metrics. A full disk loses it, not the run."""
    try:
        if kind == ROWS:
            (lines,) = message
            append(folder, lines.decode(errors="replace").rstrip("\n"))
            return
        file, picture = message
        place = (Path(folder) / file).resolve()
        if place.is_relative_to(Path(folder, IMAGES).resolve()):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture)
    except OSError as error:
        warn(f"metrics of another host are lost: {error}")
