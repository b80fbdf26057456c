"""The runs of this user and the sweeps below a folder, as JSON. What has ended is read once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.journal.sweep_folder import find_sweeps, read_sweep
from kourou.runtime.files.run_folder import runs_dir
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun, find_run

__all__ = ["Listed"]


class Listed:
    """The runs in one folder and the sweeps below another one.

    Args:
        runs: the folder of runs; None: where runs are by default.
        sweeps: the folder below which sweeps are looked for.
    """

    def __init__(self, runs: Path | None, sweeps: Path) -> None:
        self.runs_folder = (runs or runs_dir()).absolute()
        self.sweeps_folder = sweeps.absolute()
        self._found: dict[str, FoundRun] = {}
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

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""
        names = {path.name for path in self.runs_folder.iterdir()} if self.runs_folder.is_dir() else set()
        for name in names - self._found.keys():
            with contextlib.suppress(errors.NotOwned, errors.NotFound):  # many users may keep their runs in one folder
                self._found[name] = self.run(name)
        rows = [self._row(name) for name in names & self._found.keys()]
        return sorted(rows, key=lambda row: -float(row["started_at"]))

    def _row(self, name: str) -> dict[str, Any]:
        row = self._ended.get(name)
        if row is None:
            row = self._found[name].to_dict()
            if RunState(row["state"]).over and not self._found[name].info.job:  # a job may be put back into the queue
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
