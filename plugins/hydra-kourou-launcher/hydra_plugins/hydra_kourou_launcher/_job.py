"""One of Hydra's jobs, in the process of its run."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["Job"]

_RETURN_FILE = "job_return.pkl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a run calls. Its parameters are in its configuration already."""

    folder: Path
    """Hydra's for this job, and the run's."""
    context: HydraContext
    task: TaskFunction
    config: DictConfig
    singletons: Any

    def __call__(self, **_params: Any) -> None:
        """Run the job, and leave in its folder what it gives back.

        Raises:
            Exception: what it raised: the run has failed then.
        """
        file = self.folder / _RETURN_FILE
        file.unlink(missing_ok=True)
        Singleton.set_state(self.singletons)
        setup_globals()
        returned = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        try:
            file.write_bytes(cloudpickle.dumps(returned))
        except Exception as error:  # whatever keeps a value from being pickled
            raise RuntimeError(f"what the job returned, or raised, cannot be given to the sweeper: {error}") from error
        _ = returned.return_value

    def read_return(self) -> JobReturn | None:
        """What it gave back; None: nothing."""
        file = self.folder / _RETURN_FILE
        return pickle.loads(file.read_bytes()) if file.is_file() else None
