"""Many managers whose fits share one set of workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.managers.fits import Context, Parallelization, Workers, run_fits
from kourou.experiments.managers.manager import ExperimentManager, timestamped
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.sweep.retries import Retry


class MultipleManagers:
    """Fits the agents of several managers, all fits side by side; managers stay in the order in which they came.

    Args:
        max_workers, parallelization, mp_context, threads_per_fit, retry, slurm, progress: as of
            :class:`ExperimentManager`; those of the managers themselves do not count here.
        output_dir: where the journal of their fits is kept; None: beside the first manager's folder.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        parallelization: Parallelization = "process",
        mp_context: Context = "spawn",
        *,
        output_dir: str | os.PathLike[str] | None = None,
        threads_per_fit: int | None = 1,
        retry: Retry | None = None,
        slurm: SlurmOptions | None = None,
        progress: bool | None = None,
    ) -> None:
        self.workers = Workers(
            parallelization=parallelization,
            mp_context=mp_context,
            max_workers=max_workers,
            threads_per_fit=threads_per_fit,
            progress=progress,
            retry=retry,
            slurm=slurm,
        )
        self._output_dir = Path(output_dir).absolute() if output_dir is not None else None
        self._managers: list[ExperimentManager] = []

    @property
    def managers(self) -> Sequence[ExperimentManager]:
        """The managers, in the order in which they were appended."""
        return tuple(self._managers)

    def append(self, manager: ExperimentManager) -> None:
        """Add one.

        Raises:
            PlanError: another one has its folder.
        """
        if any(one.output_dir == manager.output_dir for one in self._managers):
            raise errors.PlanError(f"two managers would share the folder {manager.output_dir}")
        self._managers.append(manager)

    def fit(self, budget: Any = None) -> None:
        """Train the agents of all managers, as :meth:`ExperimentManager.fit` does those of one.

        Raises:
            FitsFailed: naming all that failed, of whichever manager; the others are saved.
            PlanError: there is no manager, or one cannot be run so; nothing was started.
        """
        if not self._managers:
            raise errors.PlanError("there is no manager to fit: append some")
        jobs = [manager.next_job(budget, workers=self.workers) for manager in self._managers]
        folder = (self._output_dir or self._managers[0].output_dir.parent) / timestamped("managers")
        run_fits(jobs, self.workers, folder, save=self.save)

    run = fit

    def save(self) -> None:
        """Save all managers."""
        for manager in self._managers:
            manager.save_quietly()
