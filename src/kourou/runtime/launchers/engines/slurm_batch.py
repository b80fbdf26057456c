"""Batch jobs of Slurm: a launcher on the first host of its own allocation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.launchers.engines.base import JobState, Submission
from kourou.runtime.model.engine_options import Slurm
from kourou.runtime.plan.plan import LaunchPlan
from kourou.working_folder import working_folder


class SlurmBatch:
    """Implements :class:`kourou.runtime.launchers.engines.base.BatchSystem`."""

    shares_folder = True

    def plan(self, plan: LaunchPlan, *, folder: Path, command: Sequence[str]) -> Submission:
        """See :class:`BatchSystem`."""
        options, shape = plan.engine, plan.shape
        assert isinstance(options, Slurm)  # noqa: S101 - it was compiled for it
        assert shape is not None  # noqa: S101 - likewise
        script = folder / "job.sh"
        further = [
            *options.of_batch(),
            f"--chdir={working_folder()}",
            f"--output={slurm_commands.quoted(folder)}/launcher.log",
        ]
        arguments = [*options.arguments(plan.program, shape, *further), str(script)]
        return Submission(
            script=options.script(shlex.join(command)), path=script, command=("sbatch", "--parsable", *arguments)
        )

    def look(self, job: str) -> JobState:
        """See :class:`BatchSystem`."""
        found = slurm_commands.known_job(job)
        if found is None:
            return JobState(state="gone", reason="Slurm does not know it any more")
        if found.over:
            return JobState(state="gone", reason=found.state)
        if not found.waits:
            return JobState(state="running")
        return JobState(state="pending", reason=found.reason if found.reason != "None" else found.state)

    def cancel(self, job: str) -> None:
        """See :class:`BatchSystem`."""
        slurm_commands.cancel_jobs([job])

    def command_there(self, job: str, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See :class:`BatchSystem`."""
        raise NotImplementedError  # its folder is shared

    def logs_there(self, job: str) -> list[str]:
        """See :class:`BatchSystem`."""
        raise NotImplementedError  # likewise

    submit = staticmethod(slurm_commands.submit)
    own_job = staticmethod(slurm_commands.own_job)
    own_restarts = staticmethod(slurm_commands.own_restarts)
    own_time_left = staticmethod(slurm_commands.own_time_left)
    requeue = staticmethod(slurm_commands.requeue)


BATCH = SlurmBatch()
