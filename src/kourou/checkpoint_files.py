"""Checkpoints on a disk: complete or not there, whatever happens while one is written.

They are numbered folders, ``checkpoint-00000007``. Each is written aside, synced and renamed, in that order, so whoever
is killed at any moment leaves the one before. What is deleted are folders of these names only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kourou.ownership import make_own_folder, read_own

ASIDE = ".writing-"
"""What the names of files and folders begin with that are being written."""
_CHECKPOINT = re.compile(r"checkpoint-(\d{8})")
_FACTS = "checkpoint.json"
_FILES = "files"
_LONGEST_NAME = 200  # of 255 bytes, with room for an ending


def as_file_name(text: str, kept: str = "") -> str:
    """A name that any file system takes: odd characters, but for ``kept``, are percent-encoded; a long one is cut."""
    quoted = urllib.parse.quote(text, safe=kept)
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[: _LONGEST_NAME - 17]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return quoted if quoted not in {".", ".."} else quoted.replace(".", "%2E")


def number_of(path: Path) -> int:
    """The number of a checkpoint; 0 where it is none."""
    found = _CHECKPOINT.fullmatch(path.name)
    return int(found[1]) if found else 0


def numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the latest first."""
    try:
        found = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(filter(number_of, found), reverse=True)


def write_synced(path: Path, *content: bytes | memoryview) -> None:
    """Write a file that is on the disk, and not only on its way there, when this returns."""
    with path.open("wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Let what a folder lists be on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def facts_of(checkpoint: Path) -> dict[str, Any]:
    """What was said of a checkpoint when it was written.

    Raises:
        NotOwned: others could have written it.
        OSError, ValueError: it is none of a :class:`CheckpointFolder`.
    """
    facts: dict[str, Any] = json.loads(read_own(checkpoint / _FACTS))
    return facts


class CheckpointFolder:
    """Checkpoints of which each is whatever files its writer likes. One process at a time writes there.

    Args:
        path: where they are; made when the first one is written.
        keep: how many are kept; at least 1.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self.path = path
        self._keep = keep

    def last(self) -> Path | None:
        """The latest checkpoint; None when there is none."""
        found = numbered(self.path)
        return found[0] if found else None

    @staticmethod
    def files(checkpoint: Path) -> Path:
        """The folder in a checkpoint that its writer filled."""
        return checkpoint / _FILES

    def write(self, fill: Callable[[Path], object], facts: Mapping[str, Any]) -> Path:
        """Have ``fill`` write files to a folder that is empty, and make a checkpoint of it; the checkpoint.

        Whatever is raised, what was there before is there still.
        """
        import shutil  # noqa: PLC0415 - nodes that write none need none of it

        make_own_folder(self.path)  # what is in it may be unpickled one day
        last = self.last()
        name = f"checkpoint-{(number_of(last) if last else 0) + 1:08}"
        for left in self.path.glob(f"{ASIDE}checkpoint-*"):  # by who was killed
            shutil.rmtree(left, ignore_errors=True)
        aside = self.path / f"{ASIDE}{name}"
        try:
            make_own_folder(aside / _FILES)
            fill(aside / _FILES)
            write_synced(aside / _FACTS, json.dumps(dict(facts), indent=1).encode())
            _sync_tree(aside)
            written = aside.rename(self.path / name)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(self.path)
        for old in numbered(self.path)[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)
        return written


def _sync_tree(folder: Path) -> None:
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                sync_folder(path)  # a file is synced in the same way
        sync_folder(Path(where))
