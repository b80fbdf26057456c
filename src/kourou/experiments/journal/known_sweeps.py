"""Which sweeps this user has launched: a link to each one's folder, beside the runs, wherever the folder is."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from kourou.experiments.journal.journal import JOURNAL_FILE
from kourou.runtime.files.run_folder import runs_dir

_LINKS = f".sweeps-{os.getuid()}"  # many users may keep their runs in one folder


def remember(folder: Path) -> None:
    """Let others find a sweep; where no link can be made, whoever knows its folder still does."""
    links = runs_dir() / _LINKS
    with contextlib.suppress(OSError):
        links.mkdir(parents=True, exist_ok=True)
        (links / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]).symlink_to(folder)


def known_sweeps(runs: Path | None = None) -> list[Path]:
    """The folders that are still there, the newest journal first; ``runs`` is where runs are, if not by default."""
    links = (runs or runs_dir()) / _LINKS
    found: dict[Path, float] = {}
    for link in links.iterdir() if links.is_dir() else ():
        with contextlib.suppress(OSError):  # the sweep was deleted, or moved
            found[link.readlink()] = (link / JOURNAL_FILE).stat().st_mtime
    return sorted(found, key=lambda folder: -found[folder])
