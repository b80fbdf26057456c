"""Appending rows to a run's file: each is written whole and at once, so that whoever is killed has lost none."""

from __future__ import annotations

import threading
from pathlib import Path

from kourou import cpython
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.metrics.rows import METRICS_FILE

_MOST_OPEN = 8
_files: dict[str, AppendFile] = {}
# A signal handler or a finaliser may log in the middle of a row's writing.
_lock = cpython.renewed_in_children(threading.RLock())


def append(folder: str, line: str) -> None:
    """Append a line to the metrics of a folder.

    Raises:
        OSError: the folder is gone, or the disk is full, or the like; the line is lost, or a part of it.
    """
    with _lock:
        file = _files.get(folder)
        if file is None:
            while len(_files) >= _MOST_OPEN:
                _files.pop(next(iter(_files))).close()
            file = _files[folder] = _open(folder)
        _write(file, folder, line)


def append_once(folder: str, line: str) -> None:
    """As :func:`append`, but leave no file open: for folders of which there are many.

    Raises:
        OSError: likewise.
    """
    file = _open(folder)
    try:
        _write(file, folder, line)
    finally:
        file.close()


def close_files(folder: str | None = None) -> None:
    """Close the file of a folder, or of all; the next row opens it again."""
    with _lock:
        for name in [folder] if folder is not None else list(_files):
            if name in _files:
                _files.pop(name).close()


def _open(folder: str) -> AppendFile:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return AppendFile(Path(folder, METRICS_FILE), errors="replace")


def _write(file: AppendFile, folder: str, line: str) -> None:
    if not file.append(line):
        raise file.error or OSError(f"no room for a row in {folder}")
