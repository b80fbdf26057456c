"""What the jobs of a sweep ask of Slurm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kourou import errors

__all__ = ["SlurmOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What every job asks for; what is not said is left to the cluster's defaults."""

    partition: str | None = None
    time: str | None = None
    """The time limit, as sbatch takes it: ``24:00:00``, ``2-0``, or minutes."""
    mem: str | None = None
    """Memory of a job, such as ``16G``."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus: int | None = None
    """CPUs of a job."""
    gpus: int = 0
    """GPUs of a job, as ``--gres=gpu:N``; Slurm sets CUDA_VISIBLE_DEVICES."""
    job_name: str | None = None
    """None: the sweep's name."""
    extra: tuple[str, ...] = ()
    """Further arguments of sbatch, such as ``--exclude=node7``."""
    lines: tuple[str, ...] = ()
    """Lines of shell before the run, such as ``module load cuda``."""
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
    requeues: int = 3
    """How often a job that nears its time limit is put back into the queue, under the same id; 0: never."""
    signal_s: int = 60
    """So many seconds before the time limit, a run is told to save its work."""
    checkpoint_signal: str = "USR1"
    """By this signal. A run that does not handle it is ended by it."""
    pause_s: float = 0.0
    """Seconds between two submissions."""
    poll_s: float = 2.0
    """Seconds between looks at the queue."""

    def __post_init__(self) -> None:
        for name in ("gpus", "requeues", "signal_s"):
            if getattr(self, name) < 0:
                raise errors.PlanError(f"{name} is at least 0, got {getattr(self, name)}")
        if self.template is not None and not Path(self.template).is_file():
            raise errors.PlanError(f"there is no sbatch template {self.template}")

    def arguments(self, name: str) -> list[str]:
        """Sbatch's arguments for any job of the sweep of that name."""
        said = {
            "--job-name": self.job_name or name,
            "--partition": self.partition,
            "--time": self.time,
            "--mem": self.mem,
            "--account": self.account,
            "--qos": self.qos,
            "--constraint": self.constraint,
            "--cpus-per-task": self.cpus,
            "--gres": f"gpu:{self.gpus}" if self.gpus else None,
            "--signal": f"B:USR1@{self.signal_s}" if self.requeues and self.signal_s else None,
        }
        listed = [f"{option}={value}" for option, value in said.items() if value is not None]
        return [*listed, "--requeue", "--open-mode=append", *self.extra]
