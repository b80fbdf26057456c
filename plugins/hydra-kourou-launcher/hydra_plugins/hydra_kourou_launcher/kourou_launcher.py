"""The launcher: each of Hydra's jobs becomes a run of a sweep, whose folder is the multirun's.

Hydra imports all plugins whenever it starts, so kourou is imported when something is launched.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.hydra_kourou_launcher._config import Backend
from hydra_plugins.hydra_kourou_launcher._job import Job

if TYPE_CHECKING:
    from kourou.experiments import RunRecord, RunSpec, SweepOutcome

__all__ = ["KourouLauncher"]

_log = logging.getLogger(__name__)


class KourouLauncher(Launcher):
    """Hydra's contract: set up once, then given batches of jobs, whose returns it gives back in their order.

    Args:
        backend: where jobs run.
        rerun: what is run again in a folder that has runs already.
        slurm: fields of SlurmOptions.
        said: fields of Share and of SweepOptions.
    """

    def __init__(self, backend: Backend, rerun: str, slurm: DictConfig, **said: Any) -> None:
        self._backend, self._rerun, self._slurm, self._said = backend, rerun, slurm, said

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What is to be run, by which configuration."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs and wait for them.

        Raises:
            KeyboardInterrupt: after Ctrl-C; on Slurm the jobs go on.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        folder = Path(str(self._config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        numbered = list(enumerate(job_overrides, start=initial_job_idx))
        _log.info("kourou runs %d jobs; kourou sweep status %s", len(numbered), folder)
        runs = [self._run_of(number, overrides) for number, overrides in numbered]
        records = self._launch(runs, folder).records
        return [_returned(record, run) for record, run in zip(records, runs, strict=True)]

    def _run_of(self, number: int, overrides: Sequence[str]) -> RunSpec:
        from kourou.experiments import RunSpec  # noqa: PLC0415 - see above
        from kourou.experiments.describe.runs import setting_id  # noqa: PLC0415 - see above

        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.num = number
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        job = Job(
            folder=_folder_of(config),
            context=self._context,
            task=self._task,
            config=config,
            singletons=Singleton.get_state(),
        )
        params = _params(overrides)
        _log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        own = [str(key) for key in self._config if key != "hydra"]
        base = OmegaConf.to_yaml(OmegaConf.masked_copy(self._config, own))
        seed = params.get("seed")
        return RunSpec(
            name=f"{number}: {' '.join(filter_overrides(overrides)) or config.hydra.job.name}",
            folder=str(job.folder),
            function=job,
            params=params,
            seed=seed if type(seed) is int and seed >= 0 else None,
            setting=setting_id(base, {name: value for name, value in params.items() if name != "seed"}, {}),
            repeat=number,
        )

    def _launch(self, runs: Sequence[RunSpec], folder: Path) -> SweepOutcome:
        from kourou import experiments  # noqa: PLC0415 - see above

        said = {name: _plain(value) for name, value in self._said.items()}
        share = {name: said.pop(name) for name in _names(experiments.Share) if name in said}
        retry = experiments.Retry(times=said.pop("retry"))
        said["preload"] = (Job.__module__, *said["preload"])  # and so Hydra, which each job would import anew
        options = experiments.SweepOptions(retry=retry, **said)
        common: dict[str, Any] = {"options": options, "rerun": self._rerun, "on_change": _tell}
        if self._backend is Backend.processes:
            return experiments.run_sweep(runs, folder, share=experiments.Share(**share), **common)
        asked = {str(name): _plain(value) for name, value in self._slurm.items()}
        slurm = experiments.SlurmOptions(**{**asked, "extra": tuple(asked["extra"]), "lines": tuple(asked["lines"])})
        return experiments.run_slurm_sweep(runs, folder, slurm=slurm, **common)


def _returned(record: RunRecord, run: RunSpec) -> JobReturn:
    """What a job gave back; where it could not, an error that says why."""
    from kourou.experiments import RunState  # noqa: PLC0415 - see above

    job: Any = run.function
    found: JobReturn | None = job.read_return()
    if found is None or (found.status is JobStatus.COMPLETED) != (record.state is RunState.SUCCEEDED):
        found = JobReturn(status=JobStatus.FAILED)
        found.return_value = RuntimeError(f"job {run.name} is {record.state}: {record.cause} (its log: {run.folder})")
    return found


def _folder_of(config: DictConfig) -> Path:
    """Where a job writes; what is written ``${hydra:job.num}`` there is asked of the configuration in force."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.set_config(config)
        return Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)).absolute()
    finally:
        hydra.cfg = before


def _params(overrides: Sequence[str]) -> dict[str, Any]:
    """The parameters of a job, as numbers, texts and so on, by the names that they have in the configuration."""
    parsed = OverridesParser.create().parse_overrides(list(filter_overrides(overrides)))
    values = {one.key_or_group: one.value() for one in parsed if not one.is_delete()}
    return {name: v if isinstance(v, int | float | list | dict) or v is None else str(v) for name, v in values.items()}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _names(kind: Any) -> list[str]:
    return list(kind.__dataclass_fields__)


def _tell(record: RunRecord) -> None:
    if record.state.ended:
        where = f": {record.cause}, see {record.folder}/stderr.log" if record.state.failed else ""
        _log.info("\t#%s %s%s", record.name, record.state, where)
