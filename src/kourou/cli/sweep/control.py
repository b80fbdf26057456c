"""``kourou sweep cancel`` and ``retry``: through the sweep's launcher if there is one, else in its journal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from kourou.cli.terminal.output import tell
from kourou.experiments.failures import asking_slurm
from kourou.experiments.journal.journal import locked_journal
from kourou.experiments.journal.requests import ask
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.journal.sweep_folder import choose_runs, find_sweep, read_sweep
from kourou.runtime.launchers.engines.slurm_commands import cancel_jobs

_RETRIED_BY_DEFAULT = {RunState.FAILED, RunState.TIMEOUT, RunState.LOST, RunState.INTERRUPTED}


def cancel_runs(folder: Path, wanted: Sequence[str]) -> None:
    """Cancel runs, or end the sweep."""
    top = find_sweep(folder)
    found = read_sweep(top)
    chosen = [record for record in choose_runs(found.records, wanted) if not record.state.ended]
    if wanted and not chosen:
        tell("there is nothing to cancel: all of these have ended")
        return
    if found.launcher:
        ask(top, "cancel" if wanted else "stop", [record.run_id for record in chosen] if wanted else None)
        tell(f"asked {found.launcher} to {f'cancel {_named(chosen)}' if wanted else 'end the sweep'}")
        return
    with locked_journal(top) as journal:
        with asking_slurm():
            cancel_jobs([record.job for record in chosen if record.job])
        for record in chosen:
            words = "cancelled" if record.job else "cancelled before it began"
            journal.append("ended", record.run_id, state=str(RunState.CANCELLED), cause=words)
        journal.commit()
    tell(f"cancelled {_named(chosen)}")


def retry_runs(folder: Path, wanted: Sequence[str]) -> None:
    """Let runs be run again: at once if the sweep is being run, else by a launch that is made here."""
    top = find_sweep(folder)
    found = read_sweep(top)
    chosen = choose_runs(found.records, wanted)
    chosen = [record for record in chosen if (record.state.ended if wanted else record.state in _RETRIED_BY_DEFAULT)]
    if not chosen:
        tell("there is nothing to retry")
        return
    if found.launcher:
        ask(top, "retry", [record.run_id for record in chosen])
        tell(f"asked {found.launcher} to run {_named(chosen)} again")
        return
    with locked_journal(top) as journal:
        for record in chosen:
            journal.append("rerun", record.run_id)
        journal.commit()
    tell(f"{_named(chosen)} will be run again by the next launch, which is: kourou sweep run {shlex.quote(str(top))}")


def _named(records: Sequence[RunRecord]) -> str:
    return records[0].name if len(records) == 1 else f"{len(records)} runs"
