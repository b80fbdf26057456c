"""A sweep as its folder tells of it, to any process, while it runs and after it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.journal.journal import JOURNAL_FILE, find_launcher, read_records
from kourou.experiments.journal.run_records import RunRecord, RunState, progress_of, without_launcher
from kourou.runtime.files.run_folder import runs_dir
from kourou.shown import listed
from kourou.working_folder import working_folder

_MOST_LISTED = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundSweep:
    """A sweep at one moment."""

    folder: Path
    records: tuple[RunRecord, ...]
    """Its runs, in order."""
    launcher: str
    """Who runs it, such as ``pid 12 on host``; empty: nobody does."""

    @property
    def active(self) -> bool:
        """Whether anything of it may still change by itself."""
        in_slurm = any(r.job and r.state in {RunState.QUEUED, RunState.RUNNING} for r in self.records)
        return bool(self.launcher) or in_slurm

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy, with how far it has come."""
        progress = progress_of(self.records)
        return {
            "folder": str(self.folder),
            "launcher": self.launcher,
            "active": self.active,
            "total": progress.total,
            "done": progress.done,
            "states": {str(state): count for state, count in progress.counts.items()},
            "eta_s": progress.eta_s,
            "runs": [record.to_dict() for record in self.records],
        }


def find_sweep(folder: str | os.PathLike[str]) -> Path:
    """The folder itself if it is a sweep's, else the newest sweep in it or one or two folders below.

    Args:
        folder: or the file that describes the sweep, whose folder it tells.

    Raises:
        NotFound: there is none.
    """
    top = Path(folder)
    if top.is_file():
        from kourou.experiments.describe.sweepfile import load_sweep  # noqa: PLC0415 - folders need none of it

        top = load_sweep(top).folder
    if (top / JOURNAL_FILE).exists():
        return top.absolute()
    found = find_sweeps(top)
    if not found:
        where = f"there is no sweep in {working_folder() / top}"
        raise errors.NotFound(f"{where}: name its folder, such as train_dir/NAME, or the file that describes it")
    return found[0]


def find_sweeps(folder: str | os.PathLike[str]) -> list[Path]:
    """The sweeps in a folder, itself included, to two folders below it; the first is the one that was heard of last."""
    found = [path for above in ("", "*/", "*/*/") for path in Path(folder).glob(f"{above}{JOURNAL_FILE}")]
    return [path.parent.absolute() for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


def read_sweep(folder: Path) -> FoundSweep:
    """Read a sweep's journal.

    Raises:
        NotFound: there is no sweep in that folder.
    """
    holder = find_launcher(folder)  # before the journal: what it wrote last is then read
    records = tuple(read_records(folder).values())
    if holder is None:
        records = tuple(map(without_launcher, records))
    launcher = "" if holder is None else f"pid {holder['pid']} on {holder['host']}"
    return FoundSweep(folder=folder, records=records, launcher=launcher)


def choose_runs(records: Sequence[RunRecord], wanted: Sequence[str]) -> list[RunRecord]:
    """The runs with these names, names of this pattern (``02_*``), or ids that begin so; without any, all.

    Raises:
        NotFound: there is none; the message lists some that there are.
    """
    if not wanted:
        return list(records)
    chosen: dict[str, RunRecord] = {}
    for word in wanted:
        named = [r for r in records if r.name == word or r.run_id.startswith(word)]
        named = named or [r for r in records if fnmatch.fnmatchcase(r.name, word)]
        if not named:
            names = listed((record.name for record in records), _MOST_LISTED)
            raise errors.NotFound(f"there is no run {word!r}; there are {names}")
        chosen.update({record.run_id: record for record in named})
    return [record for record in records if record.run_id in chosen]


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
