"""Telling on standard error how a sweep goes, where there is no terminal for a table."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.journal.looking import known_records
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.sweep.dry_run import PlannedStart
from kourou.experiments.sweep.launch import Rerun, SweepOutcome, should_run
from kourou.runtime.files.nonblocking_stream import say


class LineReporter:
    """One line for each attempt that ends."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total = total
        self._done = done
        self._ended: set[str] = set()

    @classmethod
    def of_sweep(cls, runs: Sequence[RunSpec], folder: Path, rerun: Rerun) -> LineReporter:
        """For a launch that is about to begin: what it skips is done."""
        known = known_records(folder)
        states = [known[run.run_id].state for run in runs if run.run_id in known]
        return cls(len(runs), sum(state.ended and not should_run(state, rerun) for state in states))

    def __call__(self, record: RunRecord) -> None:
        """A run has changed."""
        if record.state is RunState.PENDING and record.run_id in self._ended:
            self._ended.remove(record.run_id)
            self._done -= 1
            self._say(record, "will be tried again")
        elif record.state is RunState.PENDING:
            self._say(record, record.cause)
        elif record.state.ended:
            self._done += 1
            self._ended.add(record.run_id)
            took = f" in {record.duration_s:.1f} s" if record.duration_s is not None else ""
            cause = "" if record.state is RunState.SUCCEEDED else f": {record.how_it_ended} (logs: {record.folder})"
            self._say(record, f"{record.state}{took}{cause}")

    def _say(self, record: RunRecord, what: str) -> None:
        where = f" on GPU {','.join(record.gpus)}" if record.gpus else ""
        again = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        # Its caller is the scheduler's only thread, which must hear of a Ctrl-C.
        say(f"[{self._done}/{self._total}] {record.name}{where}{again}: {what}")


def summary(outcome: SweepOutcome) -> str:
    """A sweep's end in one line, and one for each of the first failures."""
    states = outcome.to_dict()["states"]
    counted = ", ".join(f"{count} {state.lower()}" for state, count in states.items()) or "no runs"
    lines = [f"{outcome.folder.name}: {counted}{_STOPPED.get(outcome.stopped, '')}"]
    lines += [f"  {record.name} {record.how_it_ended}; logs: {record.folder}" for record in outcome.failed[:_MOST_TOLD]]
    if len(outcome.failed) > _MOST_TOLD:
        lines.append(f"  and {len(outcome.failed) - _MOST_TOLD} more")
    if (queued := states.get(RunState.QUEUED, 0)) and not outcome.stopped:
        lines.append(f"  {queued} were handed to another system before, and not run here; --rerun all runs all of them")
    if outcome.failed and outcome.stopped != "interrupted":
        lines.append("  the same command with --rerun failed runs them again")
    return "\n".join(lines)


_MOST_TOLD = 5
_STOPPED = {
    "interrupted": " (interrupted; the same command goes on)",
    "fail-fast": " (ended with the first failure)",
    "detached": " (handed over)",
}


def planned_as_json(planned: list[PlannedStart]) -> list[dict[str, Any]]:
    """A dry run as JSON holds it."""
    return [dataclasses.asdict(start) for start in planned]


def planned_as_text(planned: list[PlannedStart]) -> str:
    """A dry run as commands that a shell would understand, each with what is set for it."""
    lines = []
    for start in planned:
        lines.append(f"# {start.name}: attempt {start.attempt}, slot {start.slot}")
        env = " ".join(f"{name}={shlex.quote(value)}" for name, value in start.env.items())
        pinned = f"taskset -c {','.join(map(str, start.cpus))} " if start.cpus is not None else ""
        lines.append(f"cd {shlex.quote(start.cwd)} && env {env} {pinned}{shlex.join(start.argv)}")
    return "\n".join(lines)
