"""What the jobs of a sweep ask of Slurm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kourou import errors
from kourou.runtime.model.slurm_job import SlurmJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmOptions(SlurmJob):
    """What every job asks for; what is not said is left to the cluster's defaults."""

    cpus: int | None = None
    """CPUs of a job."""
    gpus: int = 0
    """GPUs of a job, as ``--gres=gpu:N``; Slurm sets CUDA_VISIBLE_DEVICES."""
    at_once: int | None = None
    """Jobs of one array that may run at once."""
    array: bool = True
    """One array for all runs; else one job a run."""
    max_array_size: int | None = None
    """Cap on an array's size; None: the cluster's own."""
    template: Path | None = None
    """A script for each run, in which $CMD is its command; see docs/sweeps.md. One job a run."""
    timeout: str = "0"
    """What a template finds as $TIMEOUT."""
    workdir: Path | None = None
    """Where a template's scripts and output go; None: ``jobs`` in the sweep's folder."""
    signal_s: int = 60
    """So many seconds before the time limit, a run is told to save its work."""
    checkpoint_signal: str = "USR1"
    """By this signal. A run that does not handle it is ended by it."""
    pause_s: float = 0.0
    """Seconds between two submissions."""
    poll_s: float = 2.0
    """Seconds between looks at the queue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus < 0:
            raise errors.GraphError(f"SlurmOptions: gpus is at least 0, got {self.gpus}")
        if self.template is not None and not Path(self.template).is_file():
            raise errors.PlanError(f"there is no sbatch template {self.template}")

    def arguments(self, name: str) -> list[str]:
        """Sbatch's arguments for any job of the sweep of that name."""
        further = {"--cpus-per-task": self.cpus, "--gres": f"gpu:{self.gpus}" if self.gpus else None}
        return [*self.asked(name, further), *self.of_batch(), *self.extra]
