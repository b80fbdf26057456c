"""One trial of a search for hyperparameters: ask for some, train a few agents with them, tell how they did."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.agents.process_globals import isolated_globals
from kourou.experiments.agents.storage import accepted
from kourou.experiments.agents.writer import Writer
from kourou.experiments.failures import DescriptionError, check_word
from kourou.experiments.journal.run_folder import own_folder
from kourou.experiments.managers.job import ERROR_FILE, FitJob, agent_of, read_job, score_of
from kourou.experiments.seeding import safe_reseed, seeder_for
from kourou.extras import load_extra
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.tracebacks import format_failure

RUN = "kourou_run"
"""The attribute of a trial that says which of the search's runs it is."""

_SAMPLERS = {
    "random": "RandomSampler",
    "grid": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "optuna_default": "TPESampler",
}
_PRUNERS = {"none": "NopPruner", "halving": "SuccessiveHalvingPruner", "median": "MedianPruner"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningJob:
    """What all trials of a search share."""

    fits: FitJob
    """What is trained; a trial's arguments are added to its ``init_kwargs``."""
    sampler_method: str
    sampler_kwargs: Mapping[str, Any]
    pruner_method: str
    fit_fraction: float
    """Part of the budget after which agents are evaluated, and may be pruned."""
    pruned_metric: str | None
    """A tag whose values the first agent's writer reports as well."""
    custom_eval_function: Callable[[Sequence[Any]], float] | None
    eval_kwargs: Mapping[str, Any]
    seed: int
    deadline: float
    """Unix time after which no trial begins."""
    write: bool
    """Whether agents write metrics."""

    @property
    def name(self) -> str:
        """The agent's."""
        return self.fits.name

    @property
    def folder(self) -> Path:
        """Where the search keeps its journal and its trials."""
        return self.fits.folder

    @property
    def file(self) -> Path:
        """Where it is written."""
        return self.folder / "tuning.pkl"

    def folder_of(self, run: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / str(run)

    def parts(self) -> dict[str, Any]:
        """What came from the user."""
        return {**self.fits.parts(), "custom_eval_function": self.custom_eval_function}


def load_optuna() -> Any:
    """The package, told to be quiet.

    Raises:
        MissingExtra: it is not installed.
    """
    optuna = load_extra("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(job: TuningJob, run: int = 0) -> Any:
    """The search's study, as one of its runs sees it: samplers differ by run, and by nothing else."""
    optuna = load_optuna()

    own_folder(job.folder)
    file = optuna.storages.journal.JournalFileBackend(str(job.folder / "journal.log"))
    kwargs = {name: value for name, value in job.sampler_kwargs.items() if name != "search_space"}
    seed = int(seeder_for(job.seed, purpose="init", fit=run).generate_state(1)[0])
    sampler = getattr(optuna.samplers, _chosen(_SAMPLERS, "sampler_method", job.sampler_method))
    pruner = getattr(optuna.pruners, _chosen(_PRUNERS, "pruner_method", job.pruner_method))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(file),
        study_name=job.name,
        direction="maximize",
        load_if_exists=True,
        sampler=sampler(**{"seed": seed, **kwargs}),
        pruner=pruner(),
    )


def do_trial(job: str, run: int) -> None:
    """Do one trial; nothing, if the time is up."""
    made: TuningJob = read_job(job)
    folder = made.folder_of(run)
    own_folder(folder)
    if time.time() > made.deadline:
        return
    optuna = load_optuna()
    states = optuna.trial.TrialState
    study = open_study(made, run)
    trial = study.ask()
    trial.set_user_attr(RUN, run)
    try:
        score = _objective(made, trial, folder)
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
    except BaseException as error:
        with contextlib.suppress(OSError):
            (folder / ERROR_FILE).write_text(format_failure(error), encoding="utf-8")
        study.tell(trial, state=states.FAIL)
        raise
    else:
        study.tell(trial, score)


def kwargs_of(job: FitJob, trial: Any) -> dict[str, Any]:
    """The keyword arguments that the agent's class chooses in a trial.

    Raises:
        DescriptionError: it cannot.
    """
    sample: Callable[..., Mapping[str, Any]] | None = getattr(job.agent_class, "sample_parameters", None)
    if sample is None or not callable(sample):
        raise DescriptionError(
            f"{job.name} has no sample_parameters(trial): a class method that returns keyword arguments, made with "
            "trial.suggest_float and the like"
        )
    return dict(sample(trial))


def _objective(job: TuningJob, trial: Any, folder: Path) -> float:
    init_kwargs = {**job.fits.init_kwargs, **kwargs_of(job.fits, trial)}
    fits = dataclasses.replace(job.fits, folder=folder, init_kwargs=init_kwargs)
    agents = []
    for fit in range(fits.n_fit):
        report = _reporter(trial, job.pruned_metric) if fit == 0 and job.pruned_metric else None
        fits.folder_of(fit).mkdir(parents=True, exist_ok=True)
        writer = Writer(fits.folder_of(fit) if job.write else None, on_scalar=report)
        with isolated_globals(seeder_for(fits.seed, purpose="init", fit=fit), fits.threads):
            agents.append(agent_of(fits, fit, writer))
    score = float("nan")
    for rung, (budget, done) in enumerate(_budget_slices(fits.budget, job.fit_fraction)):
        for fit, agent in enumerate(agents):
            with isolated_globals(seeder_for(fits.seed, purpose="fit", fit=fit, call=rung), fits.threads):
                run_user_code(agent.fit, budget, **fits.fit_kwargs)
        score = _score(job, agents, rung)
        if job.fit_fraction < 1:
            trial.report(score, done)
            if trial.should_prune():
                raise load_optuna().TrialPruned
    return score


def _budget_slices(budget: Any, fraction: float) -> list[tuple[Any, int]]:
    """Budgets of successive calls of ``fit``, each with how much was spent after it."""
    if fraction >= 1:
        return [(budget, 0)]
    size = max(1, int(budget * fraction))
    ends = [*range(size, int(budget), size), int(budget)]
    return [(end - begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def _score(job: TuningJob, agents: Sequence[Any], rung: int) -> float:
    seeder = seeder_for(job.fits.seed, purpose="eval", fit=0, call=rung)
    with isolated_globals(seeder, job.fits.threads):
        if job.custom_eval_function is not None:
            return float(job.custom_eval_function(agents))
        scores = []
        for agent in agents:
            if getattr(agent, "eval_env", None) is not None:
                safe_reseed(agent.eval_env, seeder)
            scores.append(score_of(agent, accepted(agent.eval, job.eval_kwargs)))
        return sum(scores) / len(scores)


def _reporter(trial: Any, metric: str) -> Callable[[str, float, float], None]:
    steps: set[int] = set()

    def report(tag: str, value: float, step: float) -> None:
        if tag == metric and int(step) not in steps:
            steps.add(int(step))
            trial.report(value, int(step))
            if trial.should_prune():
                raise load_optuna().TrialPruned

    return report


def _chosen(table: Mapping[str, str], name: str, word: str) -> str:
    check_word(f"{name} is", word, table, DescriptionError)
    return table[word]
