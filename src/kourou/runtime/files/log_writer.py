"""Writing logs: each is rotated, and what cannot be written is told once."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from kourou import cpython
from kourou.limits import with_remedy
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.files.nonblocking_stream import warn
from kourou.runtime.files.rotation import Rotation

_LOST = "cannot write {}: {}. Lines of logs are lost"
_NOT_ROTATED = "cannot rotate {}: {}. It loses nothing, but grows beyond what KOUROU_LOG_MAX_BYTES allows"


class LogWriter:
    """Logs that this process alone writes, whole line by whole line. A full disk loses lines, and raises nothing.

    Its owner closes it. Thread-safe.
    """

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._files: dict[str, AppendFile] = {}  # by their paths, as text: a Path takes long to be hashed
        # A finaliser may print in the middle of a print; forks of nodes that are threads print, too.
        self._lock = cpython.renewed_in_children(threading.RLock())
        self._closed = False
        self._told: set[str] = set()  # troubles, each once
        self._untold: tuple[str, ...] = ()

    def open(self, *paths: Path) -> None:
        """Open logs now, so that they are there though nothing is printed: all of them, or none.

        Raises:
            OSError: one cannot be opened.
        """
        with self._lock, contextlib.ExitStack() as undo:
            for path in map(str, paths):
                self._open(path)
                undo.callback(self._close, path)
            undo.pop_all()

    def append(self, path: str, line: str) -> None:
        """Write a line, given without its newline, to a log, which is opened if need be; lost once all are closed."""
        with self._lock:
            if self._closed:
                return
            try:
                file = self._files.get(path) or self._open(path)
            except OSError as error:
                self._note(_LOST, path, error)
                return
            if not file.append(line):
                self._note(_LOST, path, file.error)
            if file.rotation_error is not None:
                self._note(_NOT_ROTATED, path, file.rotation_error)

    def tell_troubles(self) -> None:
        """Warn of what went wrong, each kind once. To be called without a lock held: a warning may be a line, too."""
        if self._untold:
            with self._lock:
                untold, self._untold = self._untold, ()
            for trouble in untold:
                warn("%s", trouble)

    def close_some(self, *paths: str | Path) -> None:
        """Close these logs; another line opens one again. Idempotent."""
        with self._lock:
            for path in map(str, paths):
                self._close(path)

    def close(self) -> None:
        """Close all, and take no more lines. Idempotent."""
        with self._lock:
            self._closed = True
            self.close_some(*self._files)

    def _close(self, path: str) -> None:
        if path in self._files:
            self._files.pop(path).close()

    def _open(self, path: str) -> AppendFile:
        # surrogateescape: a line may quote a file name that is no UTF-8
        file = self._files[path] = AppendFile(Path(path), errors="surrogateescape", rotation=self._rotation)
        return file

    def _note(self, trouble: str, path: str, error: OSError | None) -> None:
        if trouble not in self._told:
            self._told.add(trouble)
            why = with_remedy(error) if error else "the disk may be full"
            self._untold = (*self._untold, trouble.format(path, why))
