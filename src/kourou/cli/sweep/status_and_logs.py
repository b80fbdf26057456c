"""``kourou sweep status`` and ``logs``."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kourou.cli.sweep.table import sweep_table
from kourou.cli.terminal.live import can_be_drawn_over, watched
from kourou.cli.terminal.output import console, print_json, tell
from kourou.experiments.journal.run_folder import STDERR_FILE, STDOUT_FILE
from kourou.experiments.journal.sweep_folder import FoundSweep, choose_runs, find_sweep, read_sweep
from kourou.experiments.slurm.watch import refresh
from kourou.runtime.files.growing_file import LINES_MISSING, GrowingFile
from kourou.runtime.files.log_file import NOBODY

_POLL_S = 0.5


def show_sweep(folder: Path, *, watch: bool, as_json: bool) -> None:
    """Print the sweep's status once, or until it ends."""
    if as_json:
        while True:
            found = look(folder)
            print_json(found.to_dict(), indent=None if watch else 2)
            if not (watch and found.active):
                return
            time.sleep(_POLL_S)
    out = console()
    found = look(folder)
    height = out.height if can_be_drawn_over(out) else None
    with watched(out) as show:
        while watch and found.active:
            show(sweep_table(folder, found.records, width=out.width, height=height), False)
            time.sleep(_POLL_S)
            found = look(folder)
        show(sweep_table(folder, found.records, width=out.width, fill=out.is_terminal), True)
    if found.launcher:
        tell(f"run by {found.launcher}")


def show_sweep_logs(folder: Path, wanted: Sequence[str], *, follow: bool, lines: int | None) -> None:
    """Print the logs of runs, and what is added to them until the runs have ended."""
    top = find_sweep(folder)
    records = choose_runs(look(top).records, wanted)
    logs = [
        _Log(GrowingFile(Path(record.folder) / name), prefix=f"{record.name} │ " if len(records) > 1 else "")
        for record in records
        for name in (STDOUT_FILE, STDERR_FILE)
    ]
    for log in logs:
        log.print_last(lines)
    while follow:
        found = look(top)
        for log in logs:
            log.print_new()
        if not found.active or all(record.state.ended for record in choose_runs(found.records, wanted)):
            return
        time.sleep(_POLL_S)


def look(folder: Path) -> FoundSweep:
    """What the journal says, once Slurm was asked about what it has and nobody follows."""
    found = read_sweep(folder)
    if found.active and not found.launcher:
        refresh(folder)
        found = read_sweep(folder)
    return found


@dataclasses.dataclass
class _Log:
    lines: GrowingFile
    prefix: str

    def print_last(self, count: int | None) -> None:
        """Print the end of what is there."""
        lines = self._new()
        self._print(lines if count is None else lines[len(lines) - min(count, len(lines)) :])

    def print_new(self) -> None:
        """Print what was added."""
        self._print(self._new())

    def _new(self) -> list[str]:
        told: list[str] = []
        while lines := self.lines.read_lines():
            told += [f"[{NOBODY}] {LINES_MISSING}"] if self.lines.take_gap() else []
            told += lines.decode(errors="replace").splitlines()
        return told

    def _print(self, lines: Sequence[str]) -> None:
        for line in lines:
            sys.stdout.write(f"{self.prefix}{line}\n")
        sys.stdout.flush()
