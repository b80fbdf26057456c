"""Sweeps on Slurm: hand the runs over, follow them, end them; from any shell, before or after the launcher died."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.failures import asking_slurm
from kourou.experiments.journal.journal import Journal, declare, locked_journal
from kourou.experiments.journal.requests import take_requests
from kourou.experiments.journal.run_folder import EXIT_FILE, own_folder
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.slurm.manifest import Manifest
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.slurm.script import RunSubmission, submissions
from kourou.experiments.slurm.watch import SlurmWatch, runs_in_slurm
from kourou.experiments.sweep.begun import check_begun
from kourou.experiments.sweep.dry_run import unfinished_runs
from kourou.experiments.sweep.launch import (
    Rerun,
    SweepOutcome,
    check_rerun,
    end_leftovers,
    new_launch_id,
    open_sweep,
    select_runs,
)
from kourou.experiments.sweep.prepared import PreparedRun, prepare
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.signals import signals_to
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.waiting.event_queue import next_of

_JOBS = "jobs"  # folder of scripts, manifests and jobs' output, in the sweep's folder


def run_slurm_sweep(
    runs: Sequence[RunSpec],
    folder: str | os.PathLike[str],
    *,
    slurm: SlurmOptions | None = None,
    options: SweepOptions | None = None,
    rerun: Rerun = "lost",
    wait: bool = True,
    on_change: Callable[[RunRecord], None] | None = None,
    source: dict[str, Any] | None = None,
) -> SweepOutcome:
    """Hand all runs that have not finished to Slurm, and follow them.

    What Slurm has from an earlier launch is followed too, and not submitted again. Ctrl-C ends the following only:
    the jobs go on, and the same call, or ``kourou sweep status``, finds them again.

    Args:
        runs: all runs of the sweep.
        folder: the sweep's folder, which all nodes see under the same path.
        slurm: what the jobs ask for.
        options: retries and limits within a job.
        rerun: what is run again.
        wait: whether to follow the jobs until the last has ended.
        on_change: called with the record of every run that changes.
        source: what the runs were made from, kept in ``sweep.json``.

    Raises:
        PlanError: a function cannot be pickled; nothing was submitted.
        SweepBusy: another process runs this sweep.
        SweepError: Slurm cannot be asked. A submission that it refuses is that run's failure, and raises nothing.
        SweepInterrupted: Ctrl-C came.
    """
    check_rerun(rerun)
    options, slurm = options or SweepOptions(), slurm or SlurmOptions()
    prepared = _prepared(runs, folder, slurm)
    top = open_sweep(folder)
    with locked_journal(top) as journal:
        end_leftovers(top, journal)
        declare(journal, [run.declaration() for run in prepared])
        launch = _Launch(top, journal, prepared, slurm, options, on_change)
        launch.watch.poll()
        launch.submit(select_runs(journal, top, prepared, rerun, source))
        stopped = launch.follow() if wait else "detached"
        return SweepOutcome.of(journal, top, prepared, stopped)


def plan_slurm_sweep(
    runs: Sequence[RunSpec],
    folder: str | os.PathLike[str],
    *,
    slurm: SlurmOptions | None = None,
    rerun: Rerun = "lost",
) -> list[RunSubmission]:
    """What :func:`run_slurm_sweep` would hand over, with the same arguments.

    Nothing is written, and Slurm is asked for its MaxArraySize at most.
    """
    slurm = slurm or SlurmOptions()
    chosen = [run for run, _ in unfinished_runs(_prepared(runs, folder, slurm), folder, rerun)]
    return _submissions(chosen, Path(folder).absolute(), "LAUNCH", slurm)


def _prepared(runs: Sequence[RunSpec], folder: str | os.PathLike[str], slurm: SlurmOptions) -> list[PreparedRun]:
    python = sys.executable if slurm.template is None else "python"  # a template chooses it
    return prepare(check_begun(runs, folder), python=python)


def _submissions(chosen: Sequence[PreparedRun], top: Path, launch_id: str, slurm: SlurmOptions) -> list[RunSubmission]:
    largest = 1
    if slurm.array and slurm.template is None:
        with asking_slurm():
            largest = slurm.max_array_size or slurm_commands.max_array_size()
    return submissions(chosen, top.name, top / _JOBS / f"{launch_id}.pkl", slurm, largest_array=largest)


class _Launch:
    """One launcher's work."""

    def __init__(
        self,
        top: Path,
        journal: Journal,
        runs: Sequence[PreparedRun],
        slurm: SlurmOptions,
        options: SweepOptions,
        on_change: Callable[[RunRecord], None] | None,
    ) -> None:
        self._runs = {run.run_id: run for run in runs}
        self._top = top
        self._journal = journal
        self._slurm = slurm
        self._options = options
        self._on_change = on_change or (lambda _: None)
        self.watch = SlurmWatch(journal)

    def submit(self, chosen: Sequence[PreparedRun]) -> None:
        """Hand runs over. Each submission is in the journal before the next one is made."""
        if not chosen:
            return
        launch_id = new_launch_id(self._top)
        folder = self._slurm.workdir or self._top / _JOBS
        for place in (folder, self._top / _JOBS):
            own_folder(place)
        self._journal.launch(launch_id, backend="slurm")
        records = self._journal.records
        Manifest(
            folder=self._top,
            runs=tuple(chosen),
            attempts=tuple(records[run.run_id].attempt + 1 for run in chosen),
            options=self._options,
            slurm=self._slurm,
            path=tuple(str(Path(path).absolute()) for path in sys.path),
        ).save(self._top / _JOBS / f"{launch_id}.pkl")
        for submission in _submissions(chosen, self._top, launch_id, self._slurm):
            self._submit(submission)
            self._journal.commit()
            time.sleep(self._slurm.pause_s)
        self._write_scancel(folder)

    def _submit(self, submission: RunSubmission) -> None:
        for run in submission.runs:
            (run.folder / EXIT_FILE).unlink(missing_ok=True)  # it tells of an earlier attempt
        try:
            job = slurm_commands.submit(submission)
        except errors.LaunchError as error:
            for run in submission.runs:
                self._record("ended", run.run_id, state=str(RunState.FAILED), cause=str(error))
            return
        for place, run in enumerate(submission.runs):
            attempt = self._journal.records[run.run_id].attempt + 1
            self._record("submitted", run.run_id, attempt=attempt, job=submission.job_of(job, place))

    def _write_scancel(self, folder: Path) -> None:
        """As Sample Factory does; ``kourou sweep cancel`` knows of later jobs, too."""
        jobs = sorted({record.job.partition("_")[0] for record in runs_in_slurm(list(self._journal.records.values()))})
        if jobs:
            script = folder / "scancel.sh"
            script.write_text(f"#!/bin/sh\nscancel {' '.join(jobs)}\n", encoding="utf-8")
            script.chmod(0o755)

    def follow(self) -> str:
        """Look again and again until Slurm has nothing of the sweep any more; "interrupted" after Ctrl-C."""
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        with signals_to(signals.put):
            while runs_in_slurm(list(self._journal.records.values())):
                with contextlib.suppress(queue.Empty):
                    next_of(signals, self._slurm.poll_s)
                    return "interrupted"
                changed = self.watch.poll()
                for record in changed:
                    self._on_change(record)
                self._resubmit([record for record in changed if record.state is RunState.LOST])
                self._handle_requests()
                if self._options.fail_fast and any(r.state.failed for r in self._journal.records.values()):
                    self.cancel([record.run_id for record in runs_in_slurm(list(self._journal.records.values()))])
                    return "fail-fast"
        return ""

    def _resubmit(self, lost: Sequence[RunRecord]) -> None:
        """Hand over once more what the cluster has lost; what a run itself did wrong is retried in its job."""
        again = []
        for record in lost:
            if record.run_id in self._runs and self._options.retry.delay_s("node", record.retries) is not None:
                self._record("retrying", record.run_id, cause="node")
                again.append(self._runs[record.run_id])
        self.submit(again)

    def _handle_requests(self) -> None:
        for request in take_requests(self._top):
            watched = [record.run_id for record in runs_in_slurm(list(self._journal.records.values()))]
            if request.kind in {"cancel", "stop"}:
                self.cancel([run for run in watched if request.runs is None or run in request.runs])

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Cancel the jobs of runs."""
        with asking_slurm():
            slurm_commands.cancel_jobs([self._journal.records[run_id].job for run_id in run_ids])
        for run_id in run_ids:
            self._record("ended", run_id, state=str(RunState.CANCELLED), cause="cancelled")
        self._journal.commit()

    def _record(self, kind: str, run_id: str, **data: Any) -> None:
        self._on_change(self._journal.append(kind, run_id, **data))
