"""The runs of this user and the sweeps below a folder, as JSON. What has ended is read once."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.journal.sweep_folder import find_sweeps, read_sweep
from kourou.runtime.files.run_folder import PICKLED_PLAN_FILE, TOKEN_FILE, runs_dir
from kourou.runtime.model.status import STATUS_FILE, RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import find_run

_BEGINS_S = 60.0  # a run's folder is there before what tells that it is live


class Listed:
    """The runs in one folder and the sweeps below another one.

    Args:
        runs: the folder of runs; None: where runs are by default.
        sweeps: the folder below which sweeps are looked for.
    """

    def __init__(self, runs: Path | None, sweeps: Path) -> None:
        self.runs_folder = (runs or runs_dir()).absolute()
        self.sweeps_folder = sweeps.absolute()
        self._quiet: dict[str, float] = {}  # runs that have ended for good → when
        self._ended: dict[str, dict[str, Any]] = {}

    def run(self, run_id: str) -> FoundRun:
        """A run by its whole name.

        Raises:
            NotFound: there is none.
            NotOwned: others could have written it.
        """
        if run_id in {"", ".", ".."} or "/" in run_id:
            raise errors.NotFound(f"{run_id!r} is no run's name")
        return find_run(self.runs_folder / run_id)

    def runs(self, text: str = "", most: int = sys.maxsize) -> tuple[list[dict[str, Any]], int]:
        """Runs whose names have a text, the newest first: all that may be live, and those that have ended last.

        Returns:
            The runs; and how many more there are. There may be thousands: only those that are shown are read.
        """
        names = {path.name for path in self.runs_folder.iterdir()} if self.runs_folder.is_dir() else set()
        for name in names - self._quiet.keys():
            with contextlib.suppress(OSError):
                self._look(self.runs_folder / name)
        meant = {name for name in names if text in name}
        ended = sorted(meant & self._quiet.keys(), key=self._quiet.__getitem__, reverse=True)
        rows = [row for name in [*(meant - self._quiet.keys()), *ended[:most]] if (row := self._row(name))]
        return sorted(rows, key=lambda row: -float(row["started_at"])), len(ended[most:])

    def _look(self, path: Path) -> None:
        """See whether a run has ended for good: without what a live one has, and what one has that waits in a queue."""
        changed_at = path.stat().st_mtime
        begins = time.time() - changed_at < _BEGINS_S and not (path / STATUS_FILE).exists()
        if not begins and not (path / TOKEN_FILE).exists() and not (path / PICKLED_PLAN_FILE).exists():
            self._quiet[path.name] = changed_at

    def _row(self, name: str) -> dict[str, Any] | None:
        row = self._ended.get(name)
        if row is None:
            try:
                row = self.run(name).to_dict()
            except (errors.NotOwned, errors.NotFound):  # many users may keep their runs in one folder
                return None
            if name in self._quiet and RunState(row["state"]).over:
                self._ended[name] = row
        return row

    def sweep(self, name: str) -> Path:
        """A sweep's folder by its name: where it is below the folder of sweeps.

        Raises:
            NotFound: there is none.
        """
        for folder in find_sweeps(self.sweeps_folder):
            if self._sweep_name(folder) == name:
                return folder
        raise errors.NotFound(f"there is no sweep {name!r} below {self.sweeps_folder}")

    def sweeps(self) -> list[dict[str, Any]]:
        """All sweeps; that of which something was heard last is the first."""
        return [self._sweep_row(folder) for folder in find_sweeps(self.sweeps_folder)]

    def _sweep_row(self, folder: Path) -> dict[str, Any]:
        row = read_sweep(folder).to_dict()
        begun = [run["started_at"] for run in row.pop("runs") if run["started_at"] is not None]
        return {**row, "sweep": self._sweep_name(folder), "started_at": min(begun, default=None)}

    def _sweep_name(self, folder: Path) -> str:
        return folder.relative_to(self.sweeps_folder).as_posix() if folder != self.sweeps_folder else folder.name
