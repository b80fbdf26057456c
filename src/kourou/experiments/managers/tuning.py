"""Searching for hyperparameters with Optuna: exactly so many trials, scheduled as sweeps are, journalled, resumable."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from kourou.arguments import also_named
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.failures import DescriptionError, FitFailure, FitsFailed, ResultsError
from kourou.experiments.journal.run_folder import write_json
from kourou.experiments.managers.fits import Parallelization, Workers, failure_of, run_on_workers
from kourou.experiments.managers.job import FitJob, discard_job, publish_jobs
from kourou.experiments.managers.trials import RUN, TuningJob, do_trial, kwargs_of, load_optuna, open_study
from kourou.experiments.seeding import Seed, seeder_for
from kourou.experiments.sweep.retries import Retry

BEST_FILE = "best_hyperparams.json"
SamplerMethod = Literal["random", "grid", "cmaes", "optuna_default"]
PrunerMethod = Literal["none", "halving", "median"]
_FOREVER = float("inf")
_log = logging.getLogger("kourou.experiments")


class Tuned(Protocol):
    """What the search needs of a manager; :class:`kourou.experiments.ExperimentManager` has it."""

    agent_name: str
    eval_kwargs: dict[str, Any]
    workers: Workers

    @property
    def job(self) -> FitJob:
        """What all fits share."""
        ...

    @property
    def output_dir(self) -> Path:
        """The manager's folder."""
        ...

    @property
    def seed(self) -> Seed:
        """Of everything."""

    def use_init_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        """Train with these from now on."""

    def save_quietly(self) -> None:
        """Write the manager to its folder."""


@also_named(timeout="timeout_s")
def optimize_hyperparams(  # noqa: PLR0913 - rlberry's
    manager: Tuned,
    n_trials: int = 256,
    timeout_s: float | None = None,
    *,
    n_fit: int = 2,
    n_optuna_workers: int = 2,
    optuna_parallelization: Parallelization = "process",
    sampler_method: SamplerMethod = "optuna_default",
    pruner_method: PrunerMethod = "halving",
    continue_previous: bool = False,
    fit_fraction: float = 1.0,
    pruned_metric: str | None = None,
    sampler_kwargs: Mapping[str, Any] | None = None,
    disable_evaluation_writers: bool = True,
    custom_eval_function: Callable[[Sequence[Any]], float] | None = None,
) -> dict[str, Any]:
    """Search for the arguments with which agents score most, and put the best ones into the manager's ``init_kwargs``.

    The agent's class has a class method ``sample_parameters(trial)``, which returns keyword arguments. Every trial
    trains with the same seeds, those of the manager. The best arguments are in ``best_hyperparams.json``, too; agents
    that the manager had trained are dropped.

    Args:
        manager: whose agents.
        n_trials: how many in all, over all workers; with ``continue_previous`` those that were done count.
        timeout_s: seconds after which no further trial begins; None: no limit.
        n_fit: agents that are trained in each trial.
        n_optuna_workers: trials at once.
        optuna_parallelization: ``process`` (started as the manager's ``mp_context`` says), ``thread`` or ``slurm``.
        sampler_method: ``random`` and ``grid`` (``sampler_kwargs={"search_space": {name: values}}``) try the same
            whatever the number of workers; the others learn from what was done when a trial began.
        pruner_method: what ends trials early.
        continue_previous: whether to go on with the search in the manager's folder; otherwise it begins anew.
        fit_fraction: part of the budget after which agents are evaluated and may be pruned; 1: only at the end.
        pruned_metric: a tag of the agent's writer whose values decide on pruning, too, while the agent trains.
        sampler_kwargs: of Optuna's sampler.
        disable_evaluation_writers: whether metrics of trials are left unwritten.
        custom_eval_function: gets a trial's agents and scores them; None: the mean of their ``eval``.

    Returns:
        The best keyword arguments; none, if the time was over before a trial was completed.

    Raises:
        FitsFailed: naming the trials that raised or were killed; the best of the others is set and saved.
        ResultsError: all trials were pruned.
        DescriptionError: the class has no ``sample_parameters``, or a method that there is not.
        MissingExtra: optuna is not installed.
    """
    if n_trials < 1 or n_fit < 1 or not 0 < fit_fraction <= 1:
        raise DescriptionError("n_trials and n_fit are at least 1, and fit_fraction is above 0 and at most 1")
    fits = dataclasses.replace(
        manager.job, folder=manager.output_dir / "optuna", init_kwargs_per_instance=({},) * n_fit, unsaved={}
    )
    job = TuningJob(
        fits=fits,
        sampler_method=sampler_method,
        sampler_kwargs=dict(sampler_kwargs or {}),
        pruner_method=pruner_method,
        fit_fraction=fit_fraction,
        pruned_metric=pruned_metric,
        custom_eval_function=custom_eval_function,
        eval_kwargs=manager.eval_kwargs,
        seed=int(seeder_for(manager.seed, purpose="init", fit=0).generate_state(1)[0]),
        deadline=time.time() + (_FOREVER if timeout_s is None else timeout_s),
        write=not disable_evaluation_writers,
    )
    workers = dataclasses.replace(
        manager.workers, parallelization=optuna_parallelization, max_workers=n_optuna_workers, retry=Retry(times=0)
    )
    if not continue_previous:
        shutil.rmtree(job.folder, ignore_errors=True)
    failures = _search(job, workers, n_trials)
    best = _apply_best(job, manager)
    if failures:
        raise FitsFailed(failures, n_trials)
    if best is None and time.time() > job.deadline:
        _log.warning("%s: no trial was completed within %s s, so init_kwargs stay", manager.agent_name, timeout_s)
        return {}
    if best is None:
        raise ResultsError(f"no trial of {manager.agent_name} was completed: prune less")
    return best


def _search(job: TuningJob, workers: Workers, n_trials: int) -> tuple[FitFailure, ...]:
    """Do the trials that are missing; those that failed."""
    workers.check()
    study = open_study(job)
    _fail_killed_trials(study)
    _enqueue_grid(job, study)
    done = {trial.user_attrs[RUN] for trial in study.trials if RUN in trial.user_attrs}
    libraries = publish_jobs([job], on_disk=not workers.shares_memory) | {"optuna"}
    runs = [_run_spec(job, run) for run in range(n_trials) if run not in done]
    try:
        records, journal_error = run_on_workers(runs, workers, job.folder, f"{job.name}, trials", libraries)
    finally:
        _fail_killed_trials(study)
    if journal_error is not None:
        raise journal_error
    discard_job(job)
    failed = [record for record in records.values() if record.state.failed]
    return tuple(failure_of(record.name, Path(record.folder), record) for record in failed)


def _run_spec(job: TuningJob, run: int) -> RunSpec:
    return RunSpec(
        name=f"{job.name}, trial {run}",
        folder=str(job.folder_of(run)),
        function=do_trial,
        params={"job": str(job.file), "run": run},
        repeat=run,
        setting="trials",
    )


def _fail_killed_trials(study: Any) -> None:
    """What still runs now was killed."""
    states = load_optuna().trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)


def _enqueue_grid(job: TuningJob, study: Any) -> None:
    if job.sampler_method != "grid" or study.trials:
        return
    space = job.sampler_kwargs.get("search_space")
    if not space:
        raise DescriptionError('sampler_method="grid" needs sampler_kwargs={"search_space": {name: values}}')
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    random.Random(job.seed).shuffle(points)  # noqa: S311 - so that the first trials are spread over the grid
    for point in points:
        study.enqueue_trial(point)


def _apply_best(job: TuningJob, manager: Tuned) -> dict[str, Any] | None:
    """Put the best arguments into the manager and its folder; None: there are none."""
    optuna = load_optuna()
    try:
        params = open_study(job).best_params
    except ValueError:
        return None
    best = kwargs_of(job.fits, optuna.trial.FixedTrial(params))
    write_json(manager.output_dir / BEST_FILE, best)
    manager.use_init_kwargs(best)
    manager.save_quietly()
    return best
