"""Several fits of one agent: made, seeded, trained, saved, evaluated."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from kourou import errors
from kourou.arguments import also_named
from kourou.experiments.agents.environments import EnvSource, make_env
from kourou.experiments.agents.process_globals import isolated_globals
from kourou.experiments.agents.storage import accepted, delete_fit
from kourou.experiments.agents.writer import fit_data
from kourou.experiments.failures import ResultsError
from kourou.experiments.journal.run_folder import own_folder, write_json, write_whole
from kourou.experiments.managers.fits import Context, Parallelization, Workers, run_fits
from kourou.experiments.managers.job import FitJob, agent_of, find_unpicklable, score_of
from kourou.experiments.managers.tuning import optimize_hyperparams
from kourou.experiments.seeding import Seed, safe_reseed, seeder_for
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.sweep.retries import Retry
from kourou.notebook import table
from kourou.ownership import read_own
from kourou.runtime.interpreter.user_code import abstract
from kourou.shown import described, shown

if TYPE_CHECKING:
    from typing_extensions import Self

MANAGER_FILE = "manager_obj.pickle"
_OUTPUT_DIR = "runs"
_log = logging.getLogger("kourou.experiments")


class ExperimentManager:
    """Trains an agent several times, each with a seed of its own, and keeps all of it in a folder.

    No ``if __name__ == "__main__"`` is needed: nothing imports the calling script a second time.

    Args:
        agent_class: makes an agent: called with those of ``env``, ``eval_env``, ``seeder``, ``writer`` and
            ``output_dir`` that it names as parameters, and with ``init_kwargs``. What it returns has ``fit(budget)``
            and ``eval()``; ``save(path)`` and ``load(path)`` are used if there.
        train_env: ``(constructor, arguments)``, a gymnasium name, a function, or an environment to copy.
        fit_budget: what ``fit`` of an agent is given, in its own unit; may stand in ``fit_kwargs``.
        eval_env: the like, to evaluate on; None: another one made as ``train_env``.
        init_kwargs: for the agent's constructor.
        fit_kwargs: for its ``fit``.
        eval_kwargs: for its ``eval``.
        agent_name: in tables and folders; None: the class's ``name``.
        n_fit: how many fits.
        output_dir: where the manager's folder is made.
        parallelization: ``thread``: one after another in this process, unless ``max_workers`` says otherwise;
            ``process``: side by side; ``slurm``: as jobs.
        max_workers: fits at once; None: one in threads, a CPU for each in processes.
        mp_context: where processes come from: ``spawn`` (a fresh interpreter each), ``forkserver`` (forks of one that
            has torch imported already: the quickest), ``fork`` (forks of this process; refused where that would hang).
        seed: of everything. Fit *i* draws the same numbers whatever the number of fits or workers; None: a new one.
        enable_tensorboard: whether metrics go to TensorBoard's files as well (extra ``tensorboard``).
        outdir_id_style: ``timestamp`` makes a new folder each time; None: the folder is called as the agent is.
        init_kwargs_per_instance: further ``init_kwargs`` for each fit.
        threads_per_fit: threads of torch, OpenMP and BLAS in each fit; None: theirs to choose.
        retry: how often a fit begins anew; None: once where its process was killed.
        slurm: what jobs ask for.
        progress: whether a bar is shown; None: on a terminal.

    Raises:
        PlanError: arguments that have no meaning, or a folder that is another manager's.
    """

    _evaluations = 0

    def __init__(  # noqa: PLR0913, PLR0917 - rlberry's
        self,
        agent_class: Any,
        train_env: EnvSource = None,
        fit_budget: Any = None,
        eval_env: EnvSource = None,
        init_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        eval_kwargs: Mapping[str, Any] | None = None,
        agent_name: str | None = None,
        n_fit: int = 4,
        output_dir: str | os.PathLike[str] | None = None,
        parallelization: Parallelization = "thread",
        max_workers: int | None = None,
        mp_context: Context = "spawn",
        seed: Seed = None,
        enable_tensorboard: bool = False,  # noqa: FBT001, FBT002 - rlberry's
        outdir_id_style: str | None = "timestamp",
        init_kwargs_per_instance: Sequence[Mapping[str, Any]] | None = None,
        *,
        threads_per_fit: int | None = 1,
        retry: Retry | None = None,
        slurm: SlurmOptions | None = None,
        progress: bool | None = None,
    ) -> None:
        self.agent_name = agent_name or _name_of_agent(agent_class)
        self.eval_kwargs = dict(eval_kwargs or {})
        self.workers = Workers(
            parallelization=parallelization,
            mp_context=mp_context,
            max_workers=max_workers,
            threads_per_fit=threads_per_fit,
            slurm=slurm,
            progress=progress,
            retry=retry,
        )
        self._job = FitJob(
            name=self.agent_name,
            folder=_folder_for(self.agent_name, output_dir, outdir_id_style),
            agent_class=agent_class,
            train_env=train_env,
            eval_env=eval_env,
            init_kwargs=dict(init_kwargs or {}),
            init_kwargs_per_instance=_one_for_each(n_fit, init_kwargs_per_instance),
            **_budget_and_others(fit_budget, fit_kwargs),
            seed=secrets.randbits(64) if seed is None else seed,
            threads=threads_per_fit,
            tensorboard=enable_tensorboard,
        )

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def n_fit(self) -> int:
        """How many fits."""
        return self._job.n_fit

    @property
    def init_kwargs(self) -> Mapping[str, Any]:
        """What the constructor of all agents gets; a search for hyperparameters adds what it found."""
        return self._job.init_kwargs

    @property
    def output_dir(self) -> Path:
        """The manager's own folder; ``fits/0`` and so on in it belong to one fit each."""
        return self._job.folder

    @property
    def seed(self) -> Seed:
        """The root of all seeds."""
        return self._job.seed

    @property
    def fitted(self) -> tuple[int, ...]:
        """The numbers of the fits that have an agent."""
        return tuple(fit for fit in range(self.n_fit) if fit in self._job.unsaved or self._job.fitted(fit).file)

    def __repr__(self) -> str:
        return f"ExperimentManager({self.agent_name!r}, n_fit={self.n_fit}, output_dir={str(self.output_dir)!r})"

    def _repr_html_(self) -> str:
        """Its fits, as a notebook shows them."""
        trained = [self._job.fitted(fit) for fit in range(self.n_fit)]
        rows = [(fit, fit in self.fitted, one.calls, self._job.folder_of(fit)) for fit, one in enumerate(trained)]
        return table(f"{self.agent_name}, {self.output_dir}", ("fit", "trained", "calls of fit", "folder"), rows)

    # -- training -----------------------------------------------------------------------------------------------

    def fit(self, budget: Any = None, **kwargs: Any) -> None:
        """Train all agents and save them.

        After a call in which some failed, or that was killed, it trains those alone. Otherwise it goes on training all.

        Args:
            budget: None: the manager's.
            kwargs: for the agent's ``fit``, besides ``fit_kwargs``.

        Raises:
            FitsFailed: naming all that failed; the others are saved.
            PlanError: what cannot be pickled, or a way to run fits that cannot go well; nothing was started.
        """
        job = self.next_job(budget, kwargs)
        run_fits([job], self.workers, self.output_dir, save=self.save_quietly)

    def next_job(
        self, budget: Any = None, kwargs: Mapping[str, Any] | None = None, *, workers: Workers | None = None
    ) -> FitJob:
        """What the next call of :meth:`fit` does with ``workers`` (None: the manager's)."""
        finished = [self._job.fitted(fit).calls for fit in range(self.n_fit)]
        return dataclasses.replace(
            self._job,
            budget=self._job.budget if budget is None else budget,
            threads=(workers or self.workers).threads_per_fit,
            fit_kwargs={**self._job.fit_kwargs, **(kwargs or {})},
            call=min(finished),
            in_threads=(workers or self.workers).parallelization == "thread",
        )

    # -- what came of it ----------------------------------------------------------------------------------------

    def get_agent_instances(self) -> list[Any]:
        """The trained agents, read from disk; None where a fit has none."""
        return [agent_of(self._job, fit) if fit in self.fitted else None for fit in range(self.n_fit)]

    def get_writer_data(self) -> dict[int, Any]:
        """For each fit a DataFrame (name, tag, value, dw_time_elapsed, global_step); without those that wrote nothing.

        It may be called while fits run, from here or from another process.
        """
        found = {fit: fit_data(self._job.folder_of(fit), self.agent_name) for fit in range(self.n_fit)}
        return {fit: data for fit, data in found.items() if data is not None}

    def eval_agents(
        self,
        n_simulations: int | None = None,
        eval_kwargs: Mapping[str, Any] | None = None,
        agent_id: int | None = None,
    ) -> list[float]:
        """Scores of the trained agents, each evaluation with a seed of its own.

        Args:
            n_simulations: how many evaluations; None: two for each fit.
            eval_kwargs: for the agent's ``eval``, besides the manager's.
            agent_id: which fit; None: all that have an agent, in turn.

        Raises:
            ResultsError: there is no trained agent.
        """
        those = self.fitted if agent_id is None else (agent_id,)
        if not those or not set(those) <= set(self.fitted):
            raise ResultsError(
                f"{self.agent_name} has no trained agent{'' if agent_id is None else f' {agent_id}'}: fit"
            )
        agents = {fit: agent_of(self._job, fit) for fit in those}
        count = 2 * self.n_fit if n_simulations is None else n_simulations
        scores = []
        for fit, _ in zip(itertools.cycle(those), range(count), strict=False):
            scores.append(self._evaluate(agents[fit], fit, {**self.eval_kwargs, **(eval_kwargs or {})}))
        return scores

    def _evaluate(self, agent: Any, fit: int, kwargs: Mapping[str, Any]) -> float:
        seeder = seeder_for(self.seed, purpose="eval", fit=fit, call=self._evaluations)
        self._evaluations += 1
        with isolated_globals(seeder, self._job.threads):
            if getattr(agent, "eval_env", None) is not None:
                safe_reseed(agent.eval_env, seeder)
            once = accepted(agent.eval, {"n_simulations": 1})  # rlberry's agents, too, average unless told not to
            return score_of(agent, {**once, **kwargs})

    def build_eval_env(self) -> Any:
        """A new environment of the kind that agents are evaluated on."""
        seeder = seeder_for(self.seed, purpose="eval", fit=0, call=self._evaluations)
        return make_env(self._job.eval_env if self._job.eval_env is not None else self._job.train_env, seeder)

    @also_named(timeout="timeout_s")
    def optimize_hyperparams(
        self, n_trials: int = 256, timeout_s: float | None = None, **options: Any
    ) -> dict[str, Any]:
        """See :func:`kourou.experiments.optimize_hyperparams`, whose arguments these are."""
        return optimize_hyperparams(self, n_trials, timeout_s, **options)

    # -- disk ---------------------------------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the manager beside its agents, for :meth:`load`, and its metrics to ``data.csv``; the file.

        Raises:
            PlanError: naming what cannot be pickled.
        """
        own_folder(self.output_dir)
        try:
            content = cloudpickle.dumps(self)
        except Exception as error:
            problems = find_unpicklable(self._job.parts()) or [described(error)]
            raise errors.PlanError(*problems) from error
        file = self.output_dir / MANAGER_FILE
        write_whole(file, content)
        facts = {"agent_name": self.agent_name, "n_fit": self.n_fit, "seed": str(self.seed)}
        write_json(self.output_dir / "manager.json", {**facts, "init_kwargs": self.init_kwargs})
        data = self.get_writer_data()
        if data:
            frames = [frame.assign(n_simu=fit) for fit, frame in data.items()]
            frames[0].iloc[:0].to_csv(self.output_dir / "data.csv", index=False)
            for frame in frames:
                frame.to_csv(self.output_dir / "data.csv", mode="a", header=False, index=False)
        return file

    def save_quietly(self) -> None:
        """As :meth:`save`; what cannot be saved is logged, since the agents themselves are on disk already."""
        try:
            self.save()
        except (errors.KourouError, OSError) as error:
            _log.warning("%s is not saved: %s", self.agent_name, error)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a manager: its file, or its folder, which may have moved. It runs code of the file: load your own only.

        Raises:
            NotFound: there is none.
            NotOwned: others could have written it.
        """
        given = Path(path).absolute()
        file = given / MANAGER_FILE if given.is_dir() else given
        if not file.is_file():
            raise errors.NotFound(f"there is no manager in {given}: it has no {MANAGER_FILE}")
        manager: Self = cloudpickle.loads(read_own(file))
        manager._job = dataclasses.replace(manager._job, folder=file.parent)
        return manager

    def clear_output_dir(self) -> None:
        """Delete the manager's folder, agents and all."""
        shutil.rmtree(self.output_dir, ignore_errors=True)
        self._job.unsaved.clear()

    def clear_handlers(self) -> None:
        """Delete the agents and what they measured; the next fit begins anew."""
        for fit in range(self.n_fit):
            delete_fit(self._job.folder_of(fit))
        self._job.unsaved.clear()

    def use_init_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        """Put these over ``init_kwargs``, for all fits, and drop the agents made without them."""
        self.clear_handlers()
        self._job = dataclasses.replace(self._job, init_kwargs={**self.init_kwargs, **kwargs})

    @property
    def job(self) -> FitJob:
        """What all fits share."""
        return self._job


def _name_of_agent(agent_class: Any) -> str:
    if not callable(agent_class) or (isinstance(agent_class, type) and not callable(getattr(agent_class, "fit", None))):
        raise errors.PlanError(f"agent_class is a class whose objects have fit(budget), got {shown(agent_class)}")
    if mistakes := abstract(agent_class):
        raise errors.PlanError(f"agent_class: {mistakes[0]}")
    return str(getattr(agent_class, "name", "") or getattr(agent_class, "__name__", type(agent_class).__name__))


def _budget_and_others(budget: Any, fit_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    others = {"fit_budget": None, **(fit_kwargs or {})}
    there = others.pop("fit_budget")
    return {"budget": there if budget is None else budget, "fit_kwargs": others}


def _one_for_each(n_fit: int, given: Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(n_fit, int) or n_fit < 1:
        raise errors.PlanError(f"n_fit is a whole number of at least 1, got {n_fit!r}")
    each = tuple(dict(own) for own in given) if given is not None else ({},) * n_fit
    if len(each) != n_fit:
        raise errors.PlanError(f"init_kwargs_per_instance has {len(each)} entries for n_fit={n_fit} fits")
    return each


def timestamped(name: str) -> str:
    """A name that no other call gives, in this second or elsewhere."""
    return f"{name}_{datetime.datetime.now().astimezone():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(4)}"


def _folder_for(name: str, output_dir: str | os.PathLike[str] | None, style: str | None) -> Path:
    if style not in {"timestamp", None}:
        raise errors.PlanError(f'outdir_id_style is "timestamp" or None, got {style!r}')
    plain = "".join(char if char.isalnum() or char in "-_." else "-" for char in name)
    if style == "timestamp":
        plain = timestamped(plain)
    folder = Path(_OUTPUT_DIR if output_dir is None else output_dir).absolute() / plain
    if (folder / MANAGER_FILE).exists():
        raise errors.PlanError(
            f"{folder} is another manager's: go on with ExperimentManager.load(folder), or choose another name"
        )
    return folder
