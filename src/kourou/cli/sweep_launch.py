"""``kourou sweep run``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.live import Live

from kourou import errors
from kourou.cli.output import console, print_json, print_text, tell
from kourou.cli.sweep_table import sweep_table
from kourou.experiments.dry_run import plan_sweep, remembered
from kourou.experiments.engine import EngineOptions
from kourou.experiments.failures import DescriptionError
from kourou.experiments.launching import Rerun, SweepOutcome, run_sweep
from kourou.experiments.reporting import (
    LineReporter,
    planned_as_json,
    planned_as_text,
    submissions_as_text,
    summary,
)
from kourou.experiments.retries import Retry
from kourou.experiments.run_records import RunRecord
from kourou.experiments.slots import Share
from kourou.experiments.slurm_launching import plan_slurm_sweep, run_slurm_sweep
from kourou.experiments.slurm_options import SlurmOptions
from kourou.experiments.sources import Changes, LoadedSweep, load_source
from kourou.experiments.templates import plan_template_sweep, run_template_sweep

__all__ = ["SweepWish", "launch_sweep"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepWish:
    """What the command line says; see the options of ``kourou sweep run``."""

    target: str
    train_dir: str | None
    repeats: int | None
    seed: int | None
    rerun: str
    retries: str
    backoff_s: float
    time_limit_s: float | None
    fail_fast: bool
    backend: str
    parallel: int | None
    gpus: int | None
    runs_per_gpu: int | None
    gpus_per_run: int | None
    cpus_per_run: int | None
    template: Path | None
    partition: str | None
    time: str | None
    mem: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    sbatch_args: tuple[str, ...]
    lines: tuple[str, ...]
    array: bool
    requeues: int
    detach: bool

    @property
    def changes(self) -> Changes:
        """What is said in place of the sweep's own settings."""
        return Changes(train_dir=self.train_dir, repeats=self.repeats, root_seed=self.seed)

    @property
    def share(self) -> Share:
        """How this host is shared."""
        return Share(
            parallel=self.parallel,
            gpus=self.gpus,
            runs_per_gpu=self.runs_per_gpu,
            gpus_per_run=self.gpus_per_run,
            cpus_per_run=self.cpus_per_run,
        )

    @property
    def slurm(self) -> SlurmOptions:
        """What jobs ask for."""
        return SlurmOptions(
            partition=self.partition,
            time=self.time,
            mem=self.mem,
            account=self.account,
            qos=self.qos,
            constraint=self.constraint,
            cpus=self.cpus_per_run,
            gpus=self.gpus_per_run or 0,
            extra=self.sbatch_args,
            lines=self.lines,
            at_once=self.parallel,
            array=self.array,
            template=self.template,
            requeues=self.requeues,
        )

    @property
    def command_template(self) -> str:
        """The command line that hands a run over.

        Raises:
            PlanError: there is none.
        """
        if self.template is None or not self.template.is_file():
            raise errors.PlanError(f"--backend template needs --template FILE, got {self.template}")
        return self.template.read_text(encoding="utf-8")

    @property
    def options(self) -> EngineOptions:
        """How runs are treated."""
        return EngineOptions(
            retry=Retry(times=_retries(self.retries), backoff_s=self.backoff_s),
            time_limit_s=self.time_limit_s,
            fail_fast=self.fail_fast,
        )


def launch_sweep(wish: SweepWish, *, dry_run: bool, as_json: bool) -> None:
    """Run a sweep, or say what would be run."""
    try:
        loaded = load_source(wish.target, wish.changes)
    except (FileNotFoundError, DescriptionError) as error:
        raise errors.PlanError(str(error)) from None
    rerun: Rerun = wish.rerun  # type: ignore[assignment] # checked where it is used
    if wish.backend not in _BACKENDS:
        raise errors.PlanError(f"--backend is one of {', '.join(_BACKENDS)}, got {wish.backend!r}")
    if dry_run:
        planned, text = _planned(wish, loaded, rerun)
        if as_json:
            print_json(planned)
        else:
            print_text(text)
        return
    with _shown(loaded, rerun, live=console().is_terminal and not as_json, parallel=wish.parallel) as on_change:
        outcome = _BACKENDS[wish.backend](wish, loaded, rerun, on_change)
    finish(outcome, as_json=as_json)


def _planned(wish: SweepWish, loaded: LoadedSweep, rerun: Rerun) -> tuple[Any, str]:
    """What would be done, as JSON holds it and for people."""
    if wish.backend == "slurm":
        handed = plan_slurm_sweep(loaded.runs, loaded.folder, slurm=wish.slurm, rerun=rerun)
        as_json = [
            {"script": str(s.script), "text": s.text, "sbatch": s.arguments, "runs": [r.name for r in s.runs]}
            for s in handed
        ]
        return as_json, submissions_as_text(handed)
    if wish.backend == "template":
        calls = plan_template_sweep(loaded.runs, loaded.folder, wish.command_template, rerun=rerun)
        as_json = [{"name": run.name, "argv": words} for run, words in calls]
        return as_json, "\n".join(shlex.join(words) for _, words in calls)
    planned = plan_sweep(loaded.runs, loaded.folder, share=wish.share, rerun=rerun)
    return planned_as_json(planned), planned_as_text(planned)


def _here(wish: SweepWish, loaded: LoadedSweep, rerun: Rerun, on_change: Callable[[RunRecord], None]) -> SweepOutcome:
    return run_sweep(
        loaded.runs,
        loaded.folder,
        share=wish.share,
        options=wish.options,
        rerun=rerun,
        on_change=on_change,
        source=loaded.source,
    )


def _on_slurm(
    wish: SweepWish, loaded: LoadedSweep, rerun: Rerun, on_change: Callable[[RunRecord], None]
) -> SweepOutcome:
    return run_slurm_sweep(
        loaded.runs,
        loaded.folder,
        slurm=wish.slurm,
        options=wish.options,
        rerun=rerun,
        wait=not wish.detach,
        on_change=on_change,
        source=loaded.source,
    )


def _by_template(
    wish: SweepWish, loaded: LoadedSweep, rerun: Rerun, on_change: Callable[[RunRecord], None]
) -> SweepOutcome:
    return run_template_sweep(
        loaded.runs, loaded.folder, wish.command_template, rerun=rerun, on_change=on_change, source=loaded.source
    )


_BACKENDS = {"processes": _here, "slurm": _on_slurm, "template": _by_template}


def finish(outcome: SweepOutcome, *, as_json: bool) -> None:
    """Tell how it ended, and exit with its code."""
    if as_json:
        print_json(outcome.to_dict())
    tell(summary(outcome))
    raise typer.Exit(outcome.exit_code)


@contextmanager
def _shown(
    loaded: LoadedSweep, rerun: Rerun, *, live: bool, parallel: int | None
) -> Iterator[Callable[[RunRecord], None]]:
    """Show a table that follows the sweep, or a line for each end where there is no terminal."""
    if not live:
        yield LineReporter.of_sweep(loaded.runs, loaded.folder, rerun)
        return
    known = remembered(loaded.folder)
    records = {run.run_id: known.get(run.run_id) or _unknown(run.run_id, run.name, run.folder) for run in loaded.runs}
    out = console()
    tell(f"sweep {loaded.folder}: Ctrl-C ends it, and the same command goes on where it was")
    with Live(
        console=out,
        get_renderable=lambda: sweep_table(
            loaded.folder, list(records.values()), width=out.width, height=out.height, parallel=parallel
        ),
        refresh_per_second=4,
        vertical_overflow="crop",
    ):
        yield lambda record: records.__setitem__(record.run_id, record)


def _unknown(run_id: str, name: str, folder: str) -> RunRecord:
    return RunRecord(run_id=run_id, name=name, folder=folder)


def _retries(text: str) -> int | dict[str, int]:
    try:
        if "=" not in text:
            return int(text)
        return {cause.strip(): int(times) for cause, _, times in (part.partition("=") for part in text.split(","))}
    except ValueError:
        raise errors.PlanError(f"--retries is a number, or like exit=1,signal=3; got {text!r}") from None
