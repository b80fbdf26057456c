"""Running the fits of one manager or of many: on the scheduler of sweeps, as threads, processes or jobs of Slurm."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from kourou import errors
from kourou.experiments.agents.process_globals import check_torch_alone, torch_module
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.failures import FitFailure, FitsFailed, SweepError, check_word
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.managers.forks import ForkSupervisor, why_not_fork
from kourou.experiments.managers.job import ERROR_FILE, FitJob, discard_job, do_fit, publish_jobs
from kourou.experiments.managers.threads import ThreadSupervisor
from kourou.experiments.slurm.launch import run_slurm_sweep
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.sweep.launch import run_sweep
from kourou.experiments.sweep.retries import Retry
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share
from kourou.notebook import Display, bar, in_notebook
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.node_environment import thread_counts
from kourou.runtime.plan.preloading import installed
from kourou.runtime.process.supervisor import Supervisor

Parallelization: TypeAlias = Literal["thread", "process", "slurm"]
Context: TypeAlias = Literal["spawn", "forkserver", "fork"]
"""``spawn``: an interpreter for each fit. ``forkserver``: forks of an interpreter that has torch and the like imported
already. ``fork``: forks of this process."""

_RETRY = Retry(times={"signal": 1})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workers:
    """How fits are run."""

    parallelization: Parallelization = "thread"
    mp_context: Context = "spawn"
    max_workers: int | None = None
    """Fits at once; None: one in threads, which share all generators that are not the agent's own, and as many as
    there are CPUs in processes."""
    threads_per_fit: int | None = 1
    """Threads of torch, OpenMP and BLAS in each fit. One is fastest where fits run side by side, and a number that does
    not depend on the machine keeps results the same. None: theirs to choose."""
    retry: Retry | None = None
    """How often a fit begins anew that failed; None: once where its process was killed."""
    slurm: SlurmOptions | None = None
    progress: bool | None = None
    """Whether a bar is shown on standard error; None: on a terminal."""

    def __post_init__(self) -> None:
        check_word("parallelization is", self.parallelization, get_args(Parallelization), errors.PlanError)
        check_word("mp_context is", self.mp_context, get_args(Context), errors.PlanError)
        for name in ("max_workers", "threads_per_fit"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise errors.PlanError(f"{name} is a whole number of at least 1, got {value!r}")

    @property
    def shares_memory(self) -> bool:
        """Whether fits see this process's objects, so that nothing has to be pickled."""
        return self.parallelization == "thread" or (self.parallelization, self.mp_context) == ("process", "fork")

    def check(self) -> None:
        """Find what cannot go well, before anything starts.

        Raises:
            PlanError: threads that would share torch's generator, or a fork of a process with threads in C.
        """
        if self.parallelization == "thread" and torch_module() is not None:
            check_torch_alone(self.max_workers or 1)
        if self.parallelization == "process" and self.mp_context == "fork":
            why = why_not_fork(self.threads_per_fit)
            if why is not None:
                raise errors.PlanError(f'mp_context="fork": {why}; use mp_context="forkserver" or "spawn"')

    def share(self, count: int) -> Share:
        """The places for so many runs: each with CPUs of its own, as long as there are enough."""
        cpus = len(Inventory.of_this_process(with_gpus=False).cpus)
        if self.parallelization == "thread":
            return Share(parallel=max(1, min(self.max_workers or 1, count)))
        parallel = max(1, min(self.max_workers or cpus, count))
        return Share(parallel=parallel, cpus_per_run=cpus // parallel if parallel <= cpus else None)


def run_fits(jobs: Sequence[FitJob], workers: Workers, folder: Path, *, save: Callable[[], None]) -> None:
    """Run all fits of some jobs that are not done yet, saving before and after; only then complain.

    Raises:
        FitsFailed: naming all that failed.
        PlanError: something that cannot go well, or be pickled; nothing was started.
        SweepInterrupted: after Ctrl-C.
    """
    workers.check()
    libraries = publish_jobs(jobs, on_disk=not workers.shares_memory)
    save()
    runs: list[RunSpec] = []
    missing: dict[str, tuple[FitJob, int]] = {}
    for job in jobs:
        for fit in range(job.n_fit):
            if job.fitted(fit).calls <= job.call:
                run = _run_spec(job, fit, workers)
                runs.append(run)
                missing[run.run_id] = job, fit
    try:
        what = f"{jobs[0].name}, fits" if len(jobs) == 1 else "fits"
        records, journal_error = run_on_workers(runs, workers, folder, what, libraries)
    finally:
        save()
    total = sum(job.n_fit for job in jobs)
    failures = tuple(
        failure_of(f"{job.name}, fit {fit}", job.folder_of(fit), records.get(run_id), journal_error)
        for run_id, (job, fit) in missing.items()
        if job.fitted(fit).calls <= job.call
    )
    if failures:
        raise FitsFailed(failures, total)
    for job in jobs:
        discard_job(job)


def run_on_workers(
    runs: Sequence[RunSpec], workers: Workers, folder: Path, what: str, libraries: Collection[str]
) -> tuple[Mapping[str, RunRecord], SweepError | None]:
    """Run functions as workers say; their records by id, and what went wrong with the journal.

    Raises:
        SweepBusy: another process runs fits in this folder.
        SweepInterrupted: after Ctrl-C.
    """
    if not runs:
        return {}, None
    options = SweepOptions(retry=workers.retry or _RETRY, preload=_preload(runs, workers, libraries))
    supervisor = {"thread": ThreadSupervisor, "fork": ForkSupervisor}.get(
        workers.parallelization if workers.parallelization == "thread" else workers.mp_context, Supervisor
    )
    with progress_bar(what, len(runs), show=workers.progress) as on_change:
        try:
            if workers.parallelization == "slurm":
                run = functools.partial(run_slurm_sweep, slurm=workers.slurm)
            else:
                run = functools.partial(run_sweep, share=workers.share(len(runs)), make_supervisor=supervisor)
            outcome = run(runs, folder, options=options, rerun="all", on_change=on_change)
        except SweepError as error:
            if isinstance(error.__cause__, OSError) or "journal" in str(error):
                return {}, error  # a full disk: what is saved counts
            raise
    return {record.run_id: record for record in outcome.records}, None


def _preload(runs: Sequence[RunSpec], workers: Workers, libraries: Collection[str]) -> tuple[str, ...]:
    if workers.parallelization != "process" or workers.mp_context != "forkserver":
        return ()
    own = {run.function.__module__ for run in runs if run.function is not None}
    return tuple(sorted(own.union(filter(installed, libraries))))


def _run_spec(job: FitJob, fit: int, workers: Workers) -> RunSpec:
    function_of = workers.parallelization != "process" or workers.mp_context != "spawn"
    return RunSpec(
        name=f"{job.name}, fit {fit}",
        folder=str(job.folder_of(fit)),
        function=do_fit if function_of else None,
        command=None if function_of else ("python", "-m", "kourou.experiments.managers", str(job.file), str(fit)),
        params={"job": str(job.file), "fit": fit},
        env={} if workers.threads_per_fit is None else thread_counts(workers.threads_per_fit),
        repeat=fit,
        setting=f"{job.folder.name}/call-{job.call}",
    )


def failure_of(
    name: str, folder: Path, record: RunRecord | None, journal_error: SweepError | None = None
) -> FitFailure:
    """What became of a fit or a trial that failed."""
    error = folder / ERROR_FILE
    told = error.read_text(encoding="utf-8") if error.exists() else ""
    if record is None:
        cause = f"was ended: {journal_error}" if journal_error else "was not started"
    elif record.state is RunState.SUCCEEDED:
        cause = "did not save its agent"
    elif told and record.signal is None:
        cause = "raised an error"
    else:
        cause = record.cause or str(record.state)
        told = told or "\n".join(record.last_lines)
    return FitFailure(name=name, cause=cause, traceback=told, folder=str(folder))


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, show: bool | None) -> Iterator[Callable[[RunRecord], None]]:
    """A function that moves a bar, on standard error or below a notebook's cell, as fits change.

    Args:
        what: what is counted, such as ``fits``.
        total: how many.
        show: whether there is a bar; None: on a terminal, and in a notebook.
    """
    states: dict[str, RunState] = {}
    notebook = in_notebook()
    if not (notebook or sys.stderr.isatty() if show is None else show):
        yield lambda _: None
        return
    with (_in_notebook if notebook else _on_terminal)(what, total) as move:

        def on_change(record: RunRecord) -> None:
            states[record.run_id] = record.state
            counts = {
                "running": sum(state is RunState.RUNNING for state in states.values()),
                "failed": sum(state.failed for state in states.values()),
            }
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            move(f"{what}: {told}" if told else what, sum(state.ended for state in states.values()))

        yield on_change


@contextlib.contextmanager
def _in_notebook(what: str, total: int) -> Iterator[Callable[[str, int], None]]:
    shown = Display(what, bar(what, 0, total))
    yield lambda text, done: shown.update(f"{done}/{total} {text}", bar(text, done, total))


@contextlib.contextmanager
def _on_terminal(what: str, total: int) -> Iterator[Callable[[str, int], None]]:
    from rich import progress  # noqa: PLC0415 - it takes 50 ms, and files need no bar
    from rich.console import Console  # noqa: PLC0415 - it takes 50 ms, and files need no bar

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=total)
        yield lambda text, done: drawn.update(task, completed=done, description=text)
