"""What a job of Slurm is asked for, be it that of a program or of a sweep's runs. Pure: text alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from kourou import errors
from kourou.runtime.node_environment import SIGNALLED_VARIABLE
from kourou.shown import shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """What is not said is left to the cluster's defaults.

    Raises:
        GraphError: a field has no meaning.
    """

    partition: str | None = None
    time: str | None = None
    """The time limit, as sbatch takes it: ``4:00:00``, ``2-0``, or minutes."""
    mem: str | None = None
    """Memory of each host, such as ``16G``."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    job_name: str | None = None
    """None: the name of the program or the sweep."""
    extra: tuple[str, ...] = ()
    """Further arguments of salloc and sbatch, such as ``--exclude=node7``."""
    lines: tuple[str, ...] = ()
    """Of a batch job: lines of shell before its command, such as ``module load cuda``."""
    requeues: int = 3
    """How often a batch job that nears its time limit is put back into the queue, under the same id; 0: never."""
    signal_s: int = 120
    """So many seconds before the time limit, what a batch job runs is told to save its work."""

    def __post_init__(self) -> None:
        for name in ("requeues", "signal_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise errors.GraphError(f"{type(self).__name__}: {name} is at least 0, got {shown(value)}")

    def asked(self, name: str, further: Mapping[str, object]) -> list[str]:
        """The arguments of salloc and sbatch.

        Args:
            name: of the program or the sweep.
            further: option → value, where None is nothing.
        """
        said = {
            "--job-name": self.job_name or re.sub(r"[^\w.-]+", "-", name) or "kourou",
            **further,
            "--partition": self.partition,
            "--time": self.time,
            "--mem": self.mem,
            "--account": self.account,
            "--qos": self.qos,
            "--constraint": self.constraint,
        }
        return [f"{option}={value}" for option, value in said.items() if value is not None]

    @property
    def told_s(self) -> int:
        """So many seconds before its time limit, a batch job is told of it; 0: it is not."""
        return self.signal_s if self.requeues else 0

    def of_batch(self) -> list[str]:
        """The arguments of sbatch that let a job be told of its time limit, and begin again."""
        told = [f"--signal=B:USR1@{self.told_s}"] if self.told_s else []
        return ["--requeue", "--open-mode=append", *told]

    def script(self, command: str) -> str:
        """What a batch job runs."""
        # exec: Slurm's signals reach the command, and no shell waits in between. One that comes before is kept, and one
        # that comes while the command's interpreter begins must not end it.
        keep = f"trap 'export {SIGNALLED_VARIABLE}=1' USR1"
        return "\n".join(["#!/bin/bash", keep, *self.lines, "trap '' USR1", f"exec {command}", ""])
