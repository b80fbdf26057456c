"""Batch jobs of Slurm: a launcher on the first host of its own allocation."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kourou import errors
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.launchers.engines.base import JobState, Submission
from kourou.runtime.model.engines import Slurm
from kourou.runtime.plan.plan import LaunchPlan

__all__ = ["BATCH", "SlurmBatch"]

_OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING"}


class SlurmBatch:
    """Implements :class:`kourou.runtime.launchers.engines.base.BatchSystem`."""

    shares_folder = True

    def plan(self, plan: LaunchPlan, *, folder: Path, command: Sequence[str]) -> Submission:
        """See :class:`BatchSystem`."""
        options, shape = plan.engine, plan.shape
        assert isinstance(options, Slurm)  # noqa: S101 - it was compiled for it
        assert shape is not None  # noqa: S101 - likewise
        script = folder / "job.sh"
        # exec: Slurm's signals reach the launcher, and no shell waits in between.
        text = "\n".join(["#!/bin/bash", "trap '' USR1", *options.lines, f"exec {shlex.join(command)}", ""])
        further = [
            "--requeue",
            "--open-mode=append",
            *([f"--signal=B:USR1@{options.signal_s}"] if options.requeues else []),
            f"--chdir={Path.cwd()}",
            f"--output={slurm_commands.quoted(folder)}/launcher.log",
        ]
        arguments = [*options.arguments(plan.program, shape, *further), str(script)]
        return Submission(script=text, path=script, command=("sbatch", "--parsable", *arguments))

    def submit(self, submission: Submission) -> str:
        """See :class:`BatchSystem`."""
        submission.path.write_text(submission.script, encoding="utf-8")
        return slurm_commands.submit(submission.command[2:])

    def look(self, job: str) -> JobState:
        """See :class:`BatchSystem`."""
        try:
            printed = slurm_commands.call(["scontrol", "-o", "show", "job", job])
        except errors.LaunchError as error:
            if "nvalid job id" in str(error):
                return JobState(state="gone", reason="Slurm does not know it any more")
            raise
        found = re.search(r"\bJobState=(\S+) Reason=(\S+)", printed)
        state, reason = (found[1], found[2]) if found else ("", "")
        if state in _OVER:
            return JobState(state="gone", reason=state)
        if state in _RUNNING:
            return JobState(state="running")
        return JobState(state="pending", reason=reason if reason != "None" else state)

    def cancel(self, job: str) -> None:
        """See :class:`BatchSystem`."""
        slurm_commands.cancel_jobs([job])

    def command_there(self, job: str, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See :class:`BatchSystem`."""
        raise NotImplementedError  # its folder is shared

    def logs_there(self, job: str) -> list[str]:
        """See :class:`BatchSystem`."""
        raise NotImplementedError  # likewise

    def own_job(self) -> str:
        """The job that this process runs in."""
        return os.environ.get("SLURM_JOB_ID", "")

    def own_restarts(self) -> int:
        """How often it was put back into the queue."""
        return int(os.environ.get("SLURM_RESTART_COUNT", "0"))

    def requeue(self, job: str) -> None:
        """Put it back into the queue, under the same id; it is ended then."""
        slurm_commands.requeue(job)


BATCH = SlurmBatch()
