"""What all fits of one call share, as a file that any process can read, and what each of them does with it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kourou import errors
from kourou.courier.wire import codec
from kourou.experiments.agents.agent import AgentNotSaved
from kourou.experiments.agents.environments import EnvSource, make_env
from kourou.experiments.agents.process_globals import isolated_globals
from kourou.experiments.agents.storage import (
    Fitted,
    accepted,
    check_savable,
    fitted,
    load_agent,
    metrics_bytes,
    save_agent,
)
from kourou.experiments.agents.writer import Writer
from kourou.experiments.journal.run_folder import own_folder, write_whole
from kourou.experiments.seeding import Seed, Seeder, seeder_for
from kourou.extras import load_extra
from kourou.nested import iterate_leaves
from kourou.ownership import read_own
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.metrics.event_files import EventWriter
from kourou.runtime.metrics.log import logging_to
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.runtime.plan.payloads import why_not_picklable
from kourou.runtime.plan.preloading import FORKABLE
from kourou.script.packed import Packed, pack
from kourou.shown import shown
from kourou.tracebacks import format_failure

_log = logging.getLogger("kourou.experiments")

ERROR_FILE = "error.txt"
"""In a fit's folder: the traceback of what it raised."""


class Job(Protocol):
    """Work that several processes share."""

    @property
    def name(self) -> str:
        """In messages."""
        ...

    @property
    def file(self) -> Path:
        """Where it is written."""
        ...

    def parts(self) -> dict[str, Any]:
        """What came from the user, by the names of arguments."""
        ...


_local_jobs: dict[str, Any] = {}
"""Jobs of this process, by their file: threads and forks take them from here, so nothing need be picklable."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitJob:
    """One call of ``fit``, for all fits of a manager."""

    name: str
    """The agent's."""
    folder: Path
    """The manager's, absolute."""
    agent_class: Callable[..., Any]
    train_env: EnvSource = None
    eval_env: EnvSource = None
    """None: another one made as ``train_env``."""
    init_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """For all fits."""
    init_kwargs_per_instance: tuple[Mapping[str, Any], ...]
    """Further ones, for each fit; there are as many fits."""
    fit_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    budget: Any
    call: int = 0
    """Which call of ``fit`` this is, from 0."""
    seed: Seed
    threads: int | None = None
    """Of torch, in each fit."""
    tensorboard: bool = False
    in_threads: bool = False
    """Whether fits are threads of this process, where an agent that cannot be saved stays as it is."""
    unsaved: dict[int, tuple[Any, Fitted]] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """Those agents, and how far they have come, by their fits; of this process alone."""

    def __post_init__(self) -> None:
        if self.budget is None:
            raise errors.PlanError("fit_budget is missing: say how long an agent trains, in its own unit")
        if self.tensorboard:
            load_extra("tensorboard")  # missing, it would make each fit fail

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "unsaved": {}}

    @property
    def n_fit(self) -> int:
        """How many fits."""
        return len(self.init_kwargs_per_instance)

    def fitted(self, fit: int) -> Fitted:
        """How far a fit has come."""
        return self.unsaved[fit][1] if fit in self.unsaved else fitted(self.folder_of(fit))

    @property
    def file(self) -> Path:
        """Where it is written."""
        return self.folder / "jobs" / f"call-{self.call}.pkl"

    def folder_of(self, fit: int) -> Path:
        """The folder of a fit."""
        return self.folder / "fits" / str(fit)

    def parts(self) -> dict[str, Any]:
        """What came from the user, by the names of the manager's arguments."""
        names = ("agent_class", "train_env", "eval_env", "init_kwargs", "init_kwargs_per_instance", "fit_kwargs")
        return {**{name: getattr(self, name) for name in names}, "fit_budget": self.budget}


def find_unpicklable(parts: Mapping[str, Any]) -> list[str]:
    """One line for each value that no other process can get, by its path, such as ``init_kwargs['model']``."""
    found = []
    for name, value in parts.items():
        if (whole := why_not_picklable(value)) is None:
            continue
        leaves = [(path, why_not_picklable(leaf)) for path, leaf in iterate_leaves(value, name)]
        named = [(path, why) for path, why in leaves if why is not None] or [(name, whole)]
        found += [f"{path} cannot be pickled: {why}" for path, why in named]
    return found


def publish_jobs(jobs: Sequence[Job], *, on_disk: bool) -> frozenset[str]:
    """Make jobs known under their files' names: all, or none.

    Args:
        jobs: what.
        on_disk: whether other processes than this one and its forks need them.

    Returns:
        The libraries that can be forked, and that other processes import with the jobs.

    Raises:
        PlanError: naming every part that cannot be pickled.
    """
    packed = [_packed(job) for job in jobs] if on_disk else []
    for job in jobs:
        own_folder(job.file.parent)
    if not on_disk:
        _local_jobs.update({str(job.file): job for job in jobs})
    folders = [str(Path(folder).absolute()) for folder in sys.path]
    for job, content in zip(jobs, packed, strict=False):
        write_whole(job.file, pickle.dumps((folders, content), 5))
    return frozenset().union(*(content.values.imports.libraries for content in packed))


def _packed(job: Job) -> Packed:
    try:
        return pack({job.name: job}, "", reducers=codec.reducers(), libraries=FORKABLE)
    except errors.SerializationError as error:
        problems = find_unpicklable(job.parts()) or str(error).splitlines()
        advice = 'make it in the agent itself, or use parallelization="thread" or mp_context="fork"'
        raise errors.PlanError(*(f"{job.name}: {problem}; {advice}" for problem in problems)) from error


def discard_job(job: Job) -> None:
    """Remove a job that is done."""
    _local_jobs.pop(str(job.file), None)
    job.file.unlink(missing_ok=True)


def read_job(path: str) -> Any:
    """The job of that file; modules of its maker are found here, too."""
    if path in _local_jobs:
        return _local_jobs[path]
    folders, packed = pickle.loads(read_own(path))
    sys.path += [folder for folder in folders if folder not in sys.path]
    (job,) = packed.open()
    return job


def do_fit(job: str, fit: int) -> None:
    """Train one agent and save it; nothing, if that was done already. What it raises is in its folder, too."""
    made: FitJob = read_job(job)
    folder = made.folder_of(fit)
    own_folder(folder)
    if made.fitted(fit).calls > made.call:
        return
    with contextlib.suppress(OSError):
        (folder / ERROR_FILE).unlink(missing_ok=True)
    try:
        _train(made, fit)
    except BaseException as error:
        with contextlib.suppress(OSError):
            (folder / ERROR_FILE).write_text(format_failure(error), encoding="utf-8")
        raise


def _train(job: FitJob, fit: int) -> None:
    folder, events, suffix = job.folder_of(fit), job.folder / "tensorboard" / str(fit), f".call-{job.call}"
    _cut_metrics(folder / METRICS_FILE, job.fitted(fit).metrics_bytes)
    for unfinished in events.glob(f"*{suffix}"):
        unfinished.unlink()
    writer = Writer(folder, tensorboard=EventWriter(events, suffix) if job.tensorboard else None)
    with isolated_globals(seeder_for(job.seed, purpose="fit", fit=fit, call=job.call), job.threads):
        agent = agent_of(job, fit, writer)
        if not job.in_threads:
            check_savable(agent)
        with logging_to(folder):
            run_user_code(agent.fit, job.budget, **job.fit_kwargs)
        try:
            save_agent(agent, folder, job.call + 1)
        except AgentNotSaved as error:
            if not job.in_threads:
                raise
            _log.warning("%s, fit %d stays in the memory of this process: %s", job.name, fit, error)
            job.unsaved[fit] = agent, Fitted(calls=job.call + 1, metrics_bytes=metrics_bytes(folder))
        else:
            job.unsaved.pop(fit, None)


def score_of(agent: Any, kwargs: Mapping[str, Any]) -> float:
    """What the agent's ``eval`` returns.

    Raises:
        TypeError: that is no number.
    """
    score = run_user_code(agent.eval, **kwargs)
    try:
        return float(score)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{type(agent).__qualname__}.eval has to return one number, and returned {shown(score)}"
        ) from error


def agent_of(job: FitJob, fit: int, writer: Writer | None = None) -> Any:
    """The agent of a fit: as it was saved, or new. The same arguments give the same agent."""
    seeder: Seeder = seeder_for(job.seed, purpose="init", fit=fit)
    agent_seeder, env_seeder, eval_seeder = seeder.spawn(3)
    folder = job.folder_of(fit)
    handed_over = {
        "env": make_env(job.train_env, env_seeder),
        "eval_env": make_env(job.eval_env if job.eval_env is not None else job.train_env, eval_seeder),
        "seeder": agent_seeder,
        "writer": writer if writer is not None else Writer(None),
        "output_dir": folder / "output",
    }
    kwargs = {**job.init_kwargs, **job.init_kwargs_per_instance[fit]}
    if fit in job.unsaved:
        agent = job.unsaved[fit][0]
    elif fitted(folder).file:
        return load_agent(job.agent_class, folder, {**kwargs, **handed_over})
    else:
        agent = job.agent_class(**{**accepted(job.agent_class, handed_over), **kwargs})
    if hasattr(agent, "writer"):
        with contextlib.suppress(AttributeError):  # one that cannot be set has its own way
            agent.writer = handed_over["writer"]
    return agent


def _cut_metrics(path: Path, size: int) -> None:
    """Drop what an attempt wrote that did not finish."""
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
