"""The options of ``kourou sweep run``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

_HERE = "On this host"
_ON_SLURM = "On Slurm"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the command line says; the help texts tell what each field is."""

    target: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP",
            help="A YAML, TOML or JSON file; MODULE or FILE.py with a RUN_DESCRIPTION, or …:NAME; a sweep's folder.",
        ),
    ]

    train_dir: Annotated[str | None, typer.Option(help="The folder for everything.")] = None
    sweep_dir: Annotated[str | None, typer.Option(help="The folder for the journal, if not NAME in the train-dir.")] = (
        None
    )
    repeats: Annotated[int | None, typer.Option(min=1, help="Runs of each setting, with seeds of their own.")] = None
    seed: Annotated[int | None, typer.Option(help="From which the repeats' seeds are derived.")] = None

    rerun: Annotated[str, typer.Option(help="What is run again: lost, failed or all.")] = "lost"
    retries: Annotated[str, typer.Option(help="Retries of a failed run: a number, or exit=1,signal=3,timeout=0.")] = "0"
    backoff: Annotated[float, typer.Option(min=0.0, help="Seconds before the first retry; doubled each time.")] = 1.0
    time_limit: Annotated[str | None, typer.Option(help="What one attempt may take: 90s, 20m, 12h …")] = None
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End with the first failure.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started, and do nothing.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print plain JSON.")] = False

    backend: Annotated[str | None, typer.Option(help="processes (on this host, the default), slurm or template.")] = (
        None
    )
    parallel: Annotated[
        int | None, typer.Option("--parallel", "-j", min=1, help="Runs at once; here by default one a CPU.")
    ] = None
    cpus_per_run: Annotated[int | None, typer.Option(min=1, help="CPUs that each run has for itself.")] = None
    gpus_per_run: Annotated[int | None, typer.Option(min=1, help="GPUs that each run has for itself.")] = None
    memory: Annotated[
        str | None,
        typer.Option("--memory", "--mem", help="Memory of a run: 16G. One that takes more is killed."),
    ] = None
    template: Annotated[Path | None, typer.Option(help="slurm: a script around $CMD. template: a command line.")] = None

    on: Annotated[
        str | None,
        typer.Option(metavar="ENGINE", help="All runs share the hosts of one allocation: slurm or ray."),
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="FIELD=VALUE", help="Of the engine, such as partition=gpu, nodes=3."),
    ] = None

    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs to use; by default all.", rich_help_panel=_HERE)] = None
    runs_per_gpu: Annotated[int | None, typer.Option(min=1, help="Runs that share a GPU.", rich_help_panel=_HERE)] = (
        None
    )
    gpu_memory: Annotated[
        str | None,
        typer.Option(help="Free memory that a run waits for on its GPUs: 8G.", rich_help_panel=_HERE),
    ] = None

    partition: Annotated[str | None, typer.Option(rich_help_panel=_ON_SLURM)] = None
    time: Annotated[str | None, typer.Option(help="Time limit of a job.", rich_help_panel=_ON_SLURM)] = None
    account: Annotated[str | None, typer.Option(rich_help_panel=_ON_SLURM)] = None
    qos: Annotated[str | None, typer.Option(rich_help_panel=_ON_SLURM)] = None
    constraint: Annotated[str | None, typer.Option(rich_help_panel=_ON_SLURM)] = None
    sbatch_arg: Annotated[
        list[str] | None, typer.Option(help="A further argument of sbatch.", rich_help_panel=_ON_SLURM)
    ] = None
    line: Annotated[
        list[str] | None, typer.Option(help="A line of shell before each run.", rich_help_panel=_ON_SLURM)
    ] = None
    array: Annotated[
        bool, typer.Option("--array/--no-array", help="One array, or a job a run.", rich_help_panel=_ON_SLURM)
    ] = True
    requeues: Annotated[
        int, typer.Option(min=0, help="Times that a job goes on after its time limit.", rich_help_panel=_ON_SLURM)
    ] = 3
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit, and wait for nothing.", rich_help_panel=_ON_SLURM)
    ] = False


T = TypeVar("T")


def options_from(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """A decorator: a function of one dataclass becomes a command whose options are the dataclass's fields.

    Their types are ``Annotated[…, typer.Option(…)]``.
    """

    def decorated(command: Callable[[T], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**said: Any) -> None:
            command(options(**said))

        hints = get_type_hints(options, include_extras=True)
        fields = inspect.signature(options).parameters.values()
        named = [field.replace(annotation=hints[field.name]) for field in fields]
        wrapper.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined] # what inspect looks for
        wrapper.__annotations__ = {field.name: field.annotation for field in named}
        return wrapper

    return decorated
