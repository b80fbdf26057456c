"""``kourou sweep run``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.live import Live

from kourou import errors
from kourou.cli.output import console, print_json, print_text, tell
from kourou.cli.sweep_table import sweep_table
from kourou.experiments.dry_run import plan_sweep, remembered
from kourou.experiments.engine import EngineOptions
from kourou.experiments.launching import Rerun, SweepOutcome, run_sweep
from kourou.experiments.reporting import LineReporter, planned_as_json, planned_as_text, summary
from kourou.experiments.retries import Retry
from kourou.experiments.run_records import RunRecord
from kourou.experiments.slots import Share
from kourou.experiments.sources import Changes, LoadedSweep, load_source

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
    except FileNotFoundError as error:
        raise errors.PlanError(str(error)) from None
    rerun: Rerun = wish.rerun  # type: ignore[assignment] # checked where it is used
    if dry_run:
        planned = plan_sweep(loaded.runs, loaded.folder, share=wish.share, rerun=rerun)
        if as_json:
            print_json(planned_as_json(planned))
        else:
            print_text(planned_as_text(planned))
        return
    with _shown(loaded, live=console().is_terminal and not as_json, parallel=wish.parallel) as on_change:
        outcome = run_sweep(
            loaded.runs,
            loaded.folder,
            share=wish.share,
            options=wish.options,
            rerun=rerun,
            on_change=on_change,
            source=loaded.source,
        )
    finish(outcome, as_json=as_json)


def finish(outcome: SweepOutcome, *, as_json: bool) -> None:
    """Tell how it ended, and exit with its code."""
    if as_json:
        print_json(outcome.to_dict())
    tell(summary(outcome))
    raise typer.Exit(outcome.exit_code)


@contextmanager
def _shown(loaded: LoadedSweep, *, live: bool, parallel: int | None) -> Iterator[Callable[[RunRecord], None]]:
    """Show a table that follows the sweep, or a line for each end where there is no terminal."""
    known = remembered(loaded.folder)
    if not live:
        done = sum(1 for run in loaded.runs if (r := known.get(run.run_id)) is not None and r.state.ended)
        yield LineReporter(len(loaded.runs), done)
        return
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
