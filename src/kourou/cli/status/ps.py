"""``kourou ps`` and ``kourou clean``."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text

from kourou import errors
from kourou.cli.status.table import RUN_STYLES
from kourou.cli.terminal.formats import UNKNOWN, duration, size
from kourou.cli.terminal.output import console, print_json, print_text
from kourou.cli.terminal.rows import leave_out, plain_table
from kourou.experiments.journal.run_records import RunState as SweepRunState, progress_of
from kourou.experiments.journal.sweep_folder import known_sweeps, read_sweep
from kourou.runtime.files.run_folder import runs_dir
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.run_search import find_runs

_MAY_BE_LIVE = {state for state in RunState if not state.over} | {RunState.ELSEWHERE}


def list_runs(parent: Path | None, *, every: bool, as_json: bool) -> None:
    """Print the runs and sweeps: the live ones, or all."""
    runs = [*(run.to_dict() for run in find_runs(parent)), *_sweeps(parent)]
    shown = [row for row in runs if every or RunState(row["state"]) in _MAY_BE_LIVE]
    if as_json:
        print_json(shown)
        return
    if not shown:
        ended = f"; {len(runs)} ended: kourou ps --all" if runs else ""
        print_text(f"no live runs in {parent or runs_dir()}{ended}")
        return
    table = plain_table()
    # A name is there to be copied, and begins with its program's: whatever else has to give way.
    table.add_column("run", no_wrap=True, min_width=max(len(row["run"]) for row in shown))
    for heading in ("type", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nodes", "age", "took"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in shown:
        state = RunState(row["state"])
        table.add_row(
            Text(row["run"]),
            row["launch_type"],
            Text(_STATE_TEXTS.get(state, str(state)), style=RUN_STYLES[state]),
            f"{row['done']}/{row['nodes']}" if "done" in row else str(row["nodes"]),
            duration(row["age_s"]),
            UNKNOWN if row["took_s"] is None else duration(row["took_s"]),
        )
    out = console()
    leave_out(table, out.width, ("type", "nodes", "took", "age"))
    out.print(table)


_STATE_TEXTS = {RunState.DEAD: "dead launcher"}


def _sweeps(parent: Path | None) -> Iterator[dict[str, Any]]:
    """Sweeps like runs, their names being what ``kourou sweep status`` takes here, and their runs what nodes are."""
    for folder in known_sweeps(parent):
        try:
            found = read_sweep(folder)
        except errors.KourouError:  # it is another user's by now, or no sweep's any more
            continue
        begun = min((record.started_at for record in found.records if record.started_at), default=time.time())
        ended = None if found.active else max((record.ended_at or begun for record in found.records), default=begun)
        states = {record.state for record in found.records}
        state = RunState.FINISHED if states <= {SweepRunState.SUCCEEDED} else RunState.INTERRUPTED
        if any(one.failed for one in states):
            state = RunState.FAILED
        if found.active:
            state = RunState.RUNNING
        yield {
            "run": _as_typed(folder),
            "program": folder.name,
            "launch_type": "sweep",
            "state": str(state),
            "nodes": len(found.records),
            "done": progress_of(found.records).done,
            "started_at": begun,
            "ended_at": ended,
            "age_s": round(time.time() - begun, 3),
            "took_s": None if ended is None else round(ended - begun, 3),
            "folder": str(folder),
        }


def _as_typed(folder: Path) -> str:
    """As few letters as a shell needs here."""
    home = Path.home()
    with contextlib.suppress(FileNotFoundError):  # this shell's folder was deleted
        if folder.is_relative_to(Path.cwd()):
            return str(folder.relative_to(Path.cwd()))
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def clean_runs(parent: Path | None, *, older_than_s: float, dry_run: bool, as_json: bool) -> None:
    """Delete the folders of runs that ended long ago. What is no run, what may be live and what is a link stays."""
    limit = time.time() - older_than_s
    old = [run for run in find_runs(parent) if run.state not in _MAY_BE_LIVE and (run.ended_at or limit) <= limit]
    freed = {run.run_id: sum(path.lstat().st_size for path in run.path.rglob("*")) for run in old}
    if not dry_run:
        for run in old:
            shutil.rmtree(run.path)
    if as_json:
        print_json({"deleted": not dry_run, "runs": [{"run": k, "size_bytes": v} for k, v in freed.items()]})
        return
    for run_id, size_bytes in freed.items():
        print_text(f"{'would delete' if dry_run else 'deleted'} {run_id}  {size(size_bytes)}")
    ago = f"in {parent or runs_dir()} that ended more than {duration(older_than_s)} ago"
    if not freed:
        print_text(f"no runs {ago}")
    else:
        print_text(f"{len(freed)} runs {ago}: {size(sum(freed.values()))}{' could be freed' if dry_run else ' freed'}")
