"""``kourou sweep …`` as typer reads it. What the commands do is in the other modules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.output import reported

__all__ = ["sweep_app"]

sweep_app = typer.Typer(
    name="sweep",
    help="Run many experiments, look after them, and see what came of them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ON_SLURM = "On Slurm"
_HERE = "On this host"
Folder = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="The sweep's folder; without it, the newest one below this folder.")
]
Runs = Annotated[Optional[list[str]], typer.Argument(metavar="[RUN]...", help="Names, or the beginnings of ids.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON.")]
HERE = Path()


@sweep_app.command("run")
@reported()
def run(  # noqa: PLR0913 - the knobs of a launch
    target: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP",
            help="A YAML, TOML or JSON file; MODULE or FILE.py with a RUN_DESCRIPTION, or …:NAME; a sweep's folder.",
        ),
    ],
    *,
    train_dir: Annotated[Optional[str], typer.Option(help="The folder for everything.")] = None,
    repeats: Annotated[
        Optional[int], typer.Option(min=1, help="Runs of each setting, with seeds of their own.")
    ] = None,
    seed: Annotated[Optional[int], typer.Option(help="From which the repeats' seeds are derived.")] = None,
    rerun: Annotated[str, typer.Option(help="What is run again: lost, failed or all.")] = "lost",
    retries: Annotated[
        str, typer.Option(help="Retries of a failed run: a number, or exit=1,signal=3,timeout=0.")
    ] = "0",
    backoff: Annotated[float, typer.Option(min=0.0, help="Seconds before the first retry; doubled each time.")] = 1.0,
    time_limit: Annotated[Optional[str], typer.Option(help="What one attempt may take: 90s, 20m, 12h …")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End with the first failure.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started, and do nothing.")] = False,
    json: Json = False,
    backend: Annotated[str, typer.Option(help="processes, slurm or template.")] = "processes",
    parallel: Annotated[
        Optional[int], typer.Option("--parallel", "-j", min=1, help="Runs at once; here by default one a CPU.")
    ] = None,
    gpus: Annotated[
        Optional[int], typer.Option(min=1, help="GPUs to use; by default all.", rich_help_panel=_HERE)
    ] = None,
    runs_per_gpu: Annotated[
        Optional[int], typer.Option(min=1, help="Runs that share a GPU.", rich_help_panel=_HERE)
    ] = None,
    gpus_per_run: Annotated[Optional[int], typer.Option(min=1, help="GPUs that each run has for itself.")] = None,
    cpus_per_run: Annotated[Optional[int], typer.Option(min=1, help="CPUs that each run has for itself.")] = None,
    template: Annotated[
        Optional[Path],
        typer.Option(help="slurm: a script around $CMD. template: a command line."),
    ] = None,
    partition: Annotated[Optional[str], typer.Option(rich_help_panel=_ON_SLURM)] = None,
    time: Annotated[Optional[str], typer.Option(help="Time limit of a job.", rich_help_panel=_ON_SLURM)] = None,
    mem: Annotated[Optional[str], typer.Option(help="Memory of a job.", rich_help_panel=_ON_SLURM)] = None,
    account: Annotated[Optional[str], typer.Option(rich_help_panel=_ON_SLURM)] = None,
    qos: Annotated[Optional[str], typer.Option(rich_help_panel=_ON_SLURM)] = None,
    constraint: Annotated[Optional[str], typer.Option(rich_help_panel=_ON_SLURM)] = None,
    sbatch_arg: Annotated[
        Optional[list[str]], typer.Option(help="A further argument of sbatch.", rich_help_panel=_ON_SLURM)
    ] = None,
    line: Annotated[
        Optional[list[str]], typer.Option(help="A line of shell before each run.", rich_help_panel=_ON_SLURM)
    ] = None,
    array: Annotated[
        bool, typer.Option("--array/--no-array", help="One array, or a job a run.", rich_help_panel=_ON_SLURM)
    ] = True,
    requeues: Annotated[
        int, typer.Option(min=0, help="Times that a job goes on after its time limit.", rich_help_panel=_ON_SLURM)
    ] = 3,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit, and wait for nothing.", rich_help_panel=_ON_SLURM)
    ] = False,
) -> None:
    """Run all that has not finished, and wait.

    Exit codes: 0 all well, 1 some failed, 2 a mistake, 130 Ctrl-C.
    """
    from kourou.cli.formats import parse_duration
    from kourou.cli.sweep_launch import SweepWish, launch_sweep

    launch_sweep(
        SweepWish(
            target=target,
            train_dir=train_dir,
            repeats=repeats,
            seed=seed,
            rerun=rerun,
            retries=retries,
            backoff_s=backoff,
            time_limit_s=None if time_limit is None else parse_duration(time_limit),
            fail_fast=fail_fast,
            backend=backend,
            parallel=parallel,
            gpus=gpus,
            runs_per_gpu=runs_per_gpu,
            gpus_per_run=gpus_per_run,
            cpus_per_run=cpus_per_run,
            template=template,
            partition=partition,
            time=time,
            mem=mem,
            account=account,
            qos=qos,
            constraint=constraint,
            sbatch_args=tuple(sbatch_arg or ()),
            lines=tuple(line or ()),
            array=array,
            requeues=requeues,
            detach=detach,
        ),
        dry_run=dry_run,
        as_json=json,
    )


@sweep_app.command()
@reported()
def status(
    folder: Folder = HERE,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until the sweep ends.")] = False,
    json: Json = False,
) -> None:
    """Show each run: state, attempt, slot, GPU, how long, and how it ended."""
    from kourou.cli.sweep_look import show_sweep
    from kourou.experiments.looking import find_sweep

    show_sweep(find_sweep(folder), watch=watch, as_json=json)


@sweep_app.command()
@reported()
def logs(
    folder: Path,
    runs: Runs = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the runs have ended.")] = False,
    lines: Annotated[Optional[int], typer.Option("--lines", "-n", min=0, help="Only the last N of each log.")] = None,
) -> None:
    """Print what runs printed, standard output and standard error; with several runs, each line with its run's name."""
    from kourou.cli.sweep_look import show_sweep_logs

    show_sweep_logs(folder, runs or [], follow=follow, lines=lines)


@sweep_app.command()
@reported()
def cancel(folder: Path, runs: Runs = None) -> None:
    """Cancel runs; without RUN, end the whole sweep as Ctrl-C does (it can be continued)."""
    from kourou.cli.sweep_control import cancel_runs

    cancel_runs(folder, runs or [])


@sweep_app.command()
@reported()
def retry(folder: Path, runs: Runs = None) -> None:
    """Run failed, cancelled or lost runs again; without RUN, all that failed or were lost."""
    from kourou.cli.sweep_control import retry_runs

    retry_runs(folder, runs or [])


@sweep_app.command()
@reported()
def results(
    folder: Folder = HERE,
    *,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write all rows to a .csv or .json.")] = None,
    json: Json = False,
) -> None:
    """Show the last value of every metric of each run, or write all that was logged to a file."""
    from kourou.cli.sweep_results import show_results
    from kourou.experiments.looking import find_sweep

    show_results(find_sweep(folder), output=output, as_json=json)


@sweep_app.command()
@reported()
def plot(
    folder: Folder = HERE,
    *,
    metric: Annotated[Optional[list[str]], typer.Option("--metric", "-m", help="Which; by default all.")] = None,
    by: Annotated[Optional[list[str]], typer.Option(help="Parameters whose values make a curve each.")] = None,
    smooth: Annotated[float, typer.Option(min=0.0, help="Bandwidth of the smoothing, in steps; 0: none.")] = 0.0,
    band: Annotated[
        str, typer.Option(help="ci, pi or cb: interval of the mean, of a further run, of the curve.")
    ] = "ci",
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="A .png or .html; by default plot.png and plot.html.")
    ] = None,
) -> None:
    """Draw learning curves: the mean of each setting's runs with an interval."""
    from kourou.cli.sweep_results import draw_results
    from kourou.experiments.looking import find_sweep

    draw_results(find_sweep(folder), metrics=metric, by=by, bandwidth=smooth, band=band, output=output)
