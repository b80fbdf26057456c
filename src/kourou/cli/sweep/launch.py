"""``kourou sweep run``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import typer

from kourou import errors
from kourou.cli.sweep.options import LaunchOptions
from kourou.cli.sweep.table import sweep_table
from kourou.cli.terminal.formats import parse_duration, parse_size
from kourou.cli.terminal.live import can_be_drawn_over, live_display
from kourou.cli.terminal.output import console, print_json, print_text, tell
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.failures import DescriptionError, SweepInterrupted
from kourou.experiments.journal.looking import known_records, last_backend
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.slurm.launch import plan_slurm_sweep, run_slurm_sweep
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.slurm.script import submissions_as_json, submissions_as_text
from kourou.experiments.sweep.dry_run import plan_sweep
from kourou.experiments.sweep.launch import Rerun, SweepOutcome, check_rerun, run_sweep, should_run
from kourou.experiments.sweep.reporting import LineReporter, planned_as_json, planned_as_text, summary
from kourou.experiments.sweep.retries import Retry
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share
from kourou.experiments.sweep.sources import Changes, LoadedSweep, load_source
from kourou.experiments.sweep.templates import plan_template_sweep, run_template_sweep
from kourou.runtime.model.engines import EngineOptions, engine_of


def launch_sweep(options: LaunchOptions) -> None:
    """Run a sweep, or say what would be run."""
    if options.backend not in {None, *_BACKENDS}:
        raise errors.PlanError(f"--backend is one of {', '.join(_BACKENDS)}, got {options.backend!r}")
    changes = Changes(
        train_dir=options.train_dir, sweep_dir=options.sweep_dir, repeats=options.repeats, root_seed=options.seed
    )
    try:
        loaded = load_source(options.target, changes)
    except (FileNotFoundError, DescriptionError) as error:
        raise errors.PlanError(str(error)) from None
    loaded = dataclasses.replace(loaded, on=_engine(options, loaded))
    backend = _BACKENDS[options.backend or (_HERE if loaded.on else _usual_backend(loaded.folder))]
    if options.dry_run:
        planned, text = backend.plan(options, loaded)
        if options.json:
            print_json(planned)
        elif planned:
            print_text(text)
        else:
            tell("nothing is left to run; to run everything again: --rerun all")
        return
    with _live_table(options, loaded) as on_change:
        try:
            outcome = backend.launch(options, loaded, on_change)
        except SweepInterrupted as interrupted:
            outcome = interrupted.outcome
    if options.json:
        print_json(outcome.to_dict())
    tell(summary(outcome))
    raise typer.Exit(outcome.exit_code)


def _engine(options: LaunchOptions, loaded: LoadedSweep) -> EngineOptions | None:
    """Where runs share the hosts of one allocation: as the command line says, else the sweep's file."""
    if options.backend is not None and (options.on or options.option):
        raise errors.PlanError(f"--on is in place of --backend {options.backend}: give one of them")
    return engine_of(options.on, options.option or ()) or (None if options.backend else loaded.on)


def _usual_backend(folder: Path) -> str:
    """This host, unless the sweep is somewhere else already."""
    before = last_backend(folder)
    if before.startswith("on "):
        raise errors.PlanError(
            f"{folder} was launched with --{before}: say that with its options again, or --backend {_HERE}"
        )
    if before not in {"", _HERE}:
        raise errors.PlanError(
            f"{folder} was launched with --backend {before}: say --backend {before} with its options again, "
            f"or --backend {_HERE}"
        )
    return _HERE


_HERE = "processes"
OnChange: TypeAlias = Callable[[RunRecord], None]


class _Backend(NamedTuple):
    plan: Callable[[LaunchOptions, LoadedSweep], tuple[Any, str]]
    """What would be done, as JSON holds it and for people."""
    launch: Callable[[LaunchOptions, LoadedSweep, OnChange], SweepOutcome]


def _plan_here(options: LaunchOptions, loaded: LoadedSweep) -> tuple[Any, str]:
    planned = plan_sweep(loaded.runs, loaded.folder, on=loaded.on, share=_share(options), rerun=_rerun(options))
    return planned_as_json(planned), planned_as_text(planned)


def _run_here(options: LaunchOptions, loaded: LoadedSweep, on_change: OnChange) -> SweepOutcome:
    return run_sweep(
        loaded.runs,
        loaded.folder,
        on=loaded.on,
        share=_share(options),
        options=_sweep_options(options),
        rerun=_rerun(options),
        on_change=on_change,
        source=loaded.source,
    )


def _plan_on_slurm(options: LaunchOptions, loaded: LoadedSweep) -> tuple[Any, str]:
    handed = plan_slurm_sweep(loaded.runs, loaded.folder, slurm=_slurm(options), rerun=_rerun(options))
    return submissions_as_json(handed), submissions_as_text(handed)


def _run_on_slurm(options: LaunchOptions, loaded: LoadedSweep, on_change: OnChange) -> SweepOutcome:
    return run_slurm_sweep(
        loaded.runs,
        loaded.folder,
        slurm=_slurm(options),
        options=_sweep_options(options),
        rerun=_rerun(options),
        wait=not options.detach,
        on_change=on_change,
        source=loaded.source,
    )


def _plan_by_template(options: LaunchOptions, loaded: LoadedSweep) -> tuple[Any, str]:
    calls = plan_template_sweep(loaded.runs, loaded.folder, _command_template(options), rerun=_rerun(options))
    as_json = [{"name": run.name, "argv": words} for run, words in calls]
    return as_json, "\n".join(shlex.join(words) for _, words in calls)


def _run_by_template(options: LaunchOptions, loaded: LoadedSweep, on_change: OnChange) -> SweepOutcome:
    return run_template_sweep(
        loaded.runs,
        loaded.folder,
        _command_template(options),
        rerun=_rerun(options),
        on_change=on_change,
        source=loaded.source,
    )


_BACKENDS = {
    _HERE: _Backend(_plan_here, _run_here),
    "slurm": _Backend(_plan_on_slurm, _run_on_slurm),
    "template": _Backend(_plan_by_template, _run_by_template),
}


def _rerun(options: LaunchOptions) -> Rerun:
    check_rerun(options.rerun)
    return options.rerun  # type: ignore[return-value] # checked just now


def _share(options: LaunchOptions) -> Share:
    return Share(
        parallel=options.parallel,
        gpus=options.gpus,
        runs_per_gpu=options.runs_per_gpu,
        gpus_per_run=options.gpus_per_run,
        cpus_per_run=options.cpus_per_run,
        memory_bytes=None if options.memory is None else parse_size(options.memory),
        gpu_memory_bytes=None if options.gpu_memory is None else parse_size(options.gpu_memory),
    )


def _sweep_options(options: LaunchOptions) -> SweepOptions:
    return SweepOptions(
        retry=Retry(times=_retries(options.retries), backoff_s=options.backoff),
        time_limit_s=None if options.time_limit is None else parse_duration(options.time_limit),
        fail_fast=options.fail_fast,
    )


def _slurm(options: LaunchOptions) -> SlurmOptions:
    return SlurmOptions(
        partition=options.partition,
        time=options.time,
        mem=options.memory,
        account=options.account,
        qos=options.qos,
        constraint=options.constraint,
        cpus=options.cpus_per_run,
        gpus=options.gpus_per_run or 0,
        extra=tuple(options.sbatch_arg or ()),
        lines=tuple(options.line or ()),
        at_once=options.parallel,
        array=options.array,
        template=options.template,
        requeues=options.requeues,
    )


def _command_template(options: LaunchOptions) -> str:
    if options.template is None or not options.template.is_file():
        raise errors.PlanError(f"--backend template needs --template FILE, got {options.template}")
    return options.template.read_text(encoding="utf-8")


def _retries(text: str) -> int | dict[str, int]:
    try:
        if "=" not in text:
            return int(text)
        return {cause.strip(): int(times) for cause, _, times in (part.partition("=") for part in text.split(","))}
    except ValueError:
        raise errors.PlanError(f"--retries is a number, or like exit=1,signal=3; got {text!r}") from None


@contextmanager
def _live_table(options: LaunchOptions, loaded: LoadedSweep) -> Iterator[OnChange]:
    """Show a table that follows the sweep, or a line for each end where there is no terminal."""
    out = console()
    if options.json or not can_be_drawn_over(out):
        yield LineReporter.of_sweep(loaded.runs, loaded.folder, _rerun(options))
        return
    known = known_records(loaded.folder)
    records = {run.run_id: _initial_record(run, known.get(run.run_id), _rerun(options)) for run in loaded.runs}
    tell(f"sweep {loaded.folder}: Ctrl-C ends it, and the same command goes on where it was")
    with live_display(
        out,
        get_renderable=lambda: sweep_table(
            loaded.folder, list(records.values()), width=out.width, height=out.height, parallel=options.parallel
        ),
        refresh_per_second=4,
    ):
        yield lambda record: records.__setitem__(record.run_id, record)


def _initial_record(run: RunSpec, known: RunRecord | None, rerun: Rerun) -> RunRecord:
    """How a run stands when the launch begins."""
    if known is None:
        return RunRecord(run_id=run.run_id, name=run.name, folder=run.folder)
    return dataclasses.replace(known, state=RunState.PENDING, cause="") if should_run(known.state, rerun) else known
