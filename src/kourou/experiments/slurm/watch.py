"""What has become of the runs that were handed to Slurm: from their folders, the queue, and Slurm's memory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.failures import SweepBusy, asking_slurm
from kourou.experiments.journal.journal import Journal, locked_journal
from kourou.experiments.journal.run_folder import EXIT_FILE, read_json
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.results.results import RUN_FILE
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.launchers.engines.slurm_commands import SlurmState

_SHELL_SIGNALS = 128  # a shell whose command was ended by signal n exits with this + n
_GONE_S = 15.0  # a job may leave the queue before its last file is seen on a network's file system
_ENDS = {
    "TIMEOUT": (RunState.TIMEOUT, "reached the job's time limit"),
    "DEADLINE": (RunState.TIMEOUT, "reached the job's deadline"),
    "CANCELLED": (RunState.CANCELLED, "its job was cancelled"),
    "PREEMPTED": (RunState.LOST, "its job was preempted"),
    "NODE_FAIL": (RunState.LOST, "its node failed"),
    "BOOT_FAIL": (RunState.LOST, "its node did not boot"),
    "OUT_OF_MEMORY": (RunState.FAILED, "took more memory than its job has"),
    "FAILED": (RunState.FAILED, "its job failed before it began or could tell; see the job's output"),
    "COMPLETED": (RunState.LOST, "its job ended without a word; does the template run $CMD?"),
}


def runs_in_slurm(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Those that Slurm has."""
    return [r for r in records if r.job and r.state in {RunState.QUEUED, RunState.RUNNING}]


def refresh(folder: Path) -> None:
    """Ask Slurm about a sweep that nobody follows, and write down what it says. If somebody follows it, do nothing.

    Raises:
        SweepError: Slurm cannot be asked.
    """
    with contextlib.suppress(SweepBusy), locked_journal(folder) as journal:
        SlurmWatch(journal).poll()


class SlurmWatch:
    """Brings a journal up to date."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._missing: dict[str, float] = {}  # run → monotonic time since which its job is nowhere to be seen

    def poll(self) -> list[RunRecord]:
        """Ask once; the records that changed, which are committed.

        Raises:
            SweepError: Slurm cannot be asked.
        """
        watched = runs_in_slurm(list(self._journal.records.values()))
        if not watched:
            return []
        with asking_slurm():
            jobs = slurm_commands.queued_jobs()  # before the folders: what left the queue has told its end by then
        changed = [record for record in (self._update(record, jobs) for record in watched) if record is not None]
        self._journal.commit()
        return changed

    def _update(self, record: RunRecord, jobs: dict[str, SlurmState]) -> RunRecord | None:
        folder = Path(record.folder)
        end = read_json(folder / EXIT_FILE)
        if end is not None and not _may_go_on(end):
            return self._record_end(record, end)
        job = jobs.get(record.job)
        if job is None:
            return self._on_missing_job(record, folder, end)
        self._missing.pop(record.run_id, None)
        if job.waits:
            if record.state is RunState.RUNNING or (job.reason == "BeginTime" and _has_begun(record)):
                slurm_commands.release(record.job)  # it was requeued
                return self._journal.append("submitted", record.run_id, attempt=record.attempt + 1, job=record.job)
        elif record.state is RunState.QUEUED and job.state == "RUNNING":
            run_info = read_json(folder / RUN_FILE) or {}
            host = str(run_info.get("host", "")) if run_info.get("job") == record.job else ""
            if host:  # else it has not begun to run yet
                return self._journal.append("running", record.run_id, host=host, started_at=run_info["started_at"])
        return None

    def _on_missing_job(self, record: RunRecord, folder: Path, end: dict[str, Any] | None) -> RunRecord | None:
        """Its job is not in the queue, and the run did not say how it ended."""
        run_info = read_json(folder / RUN_FILE) or {}
        started = run_info.get("started_at", 0.0)
        if run_info.get("job") and run_info["job"] != record.job and started > (record.started_at or 0.0):
            # A template has submitted itself again.
            return self._journal.append("submitted", record.run_id, attempt=run_info["attempt"], job=run_info["job"])
        since = self._missing.setdefault(record.run_id, time.monotonic())
        final = slurm_commands.final_state(record.job)
        state = final.state if final is not None else ""
        if end is not None and (state not in _ENDS or state in {"COMPLETED", "FAILED"}):
            return self._record_end(record, end)
        if state in _ENDS and (state not in {"COMPLETED", "FAILED"} or time.monotonic() - since > _GONE_S / 5):
            ended, words = _ENDS[state]
            return self._journal.append("ended", record.run_id, state=str(ended), cause=words)
        if time.monotonic() - since > _GONE_S:
            words = f"its job {record.job} is gone, and Slurm does not know what became of it"
            return self._journal.append("ended", record.run_id, state=str(RunState.LOST), cause=words)
        return None

    def _record_end(self, record: RunRecord, end: dict[str, Any]) -> RunRecord:
        known = ("state", "cause", "code", "signal", "last_lines", "host", "started_at", "ended_at", "attempt")
        return self._journal.append("ended", record.run_id, **{name: end[name] for name in known if name in end})


def _may_go_on(end: dict[str, Any]) -> bool:
    """Whether this may not be the run's end, so that Slurm has to be asked what became of its job.

    An attempt may be followed by another one in the same job, or the job be back in the queue. Or Slurm takes the job
    away: it sends SIGTERM to all of its processes, and the run's may die before the one that watches it is told.
    """
    terminated = end.get("signal") == "SIGTERM" or end.get("code") == _SHELL_SIGNALS + signal.SIGTERM
    failed = end.get("state") == RunState.FAILED and terminated
    goes_on = bool(end.get("requeued")) or end.get("retried_at") is not None
    return failed or goes_on or end.get("state") == RunState.INTERRUPTED


def _has_begun(record: RunRecord) -> bool:
    """Whether the latest attempt has been seen at work, which a quick one may be between two looks at the queue."""
    run_info = read_json(Path(record.folder) / RUN_FILE) or {}
    return run_info.get("job") == record.job and run_info.get("attempt") == record.attempt
