"""``kourou sweep …`` as typer reads it. What the commands do is in the other modules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.sweep.options import LaunchOptions, options_from
from kourou.cli.terminal.arguments import Json

sweep_app = typer.Typer(
    name="sweep",
    help="Run many experiments, look after them, and see what came of them.",
    no_args_is_help=True,
    add_completion=False,  # the application has it
)

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="[FOLDER]", help="The sweep's folder or file; without it, the newest one below this folder."
    ),
]
Runs = Annotated[
    Optional[list[str]],
    typer.Argument(metavar="[RUN]...", help="Names, patterns ('02_*'), beginnings of ids."),
]
HERE = Path()


@sweep_app.command("run")
@options_from(LaunchOptions)
def run(options: LaunchOptions) -> None:
    """Run all that has not finished, and wait.

    Exit codes: 0 all well, 1 some failed, 2 a mistake, 130 Ctrl-C.
    """
    from kourou.cli.sweep.launch import launch_sweep

    launch_sweep(options)


@sweep_app.command()
def status(
    folder: Folder = HERE,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until the sweep ends.")] = False,
    json: Json = False,
) -> None:
    """Show each run: state, attempt, slot, GPU, how long, and how it ended."""
    from kourou.cli.sweep.status_and_logs import show_sweep
    from kourou.experiments.journal.sweep_folder import find_sweep

    show_sweep(find_sweep(folder), watch=watch, as_json=json)


@sweep_app.command()
def logs(
    folder: Path,
    runs: Runs = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the runs have ended.")] = False,
    lines: Annotated[Optional[int], typer.Option("--lines", "-n", min=0, help="Only the last N of each log.")] = None,
) -> None:
    """Print what runs printed, standard output and standard error; with several runs, each line with its run's name."""
    from kourou.cli.sweep.status_and_logs import show_sweep_logs

    show_sweep_logs(folder, runs or [], follow=follow, lines=lines)


@sweep_app.command()
def cancel(folder: Path, runs: Runs = None) -> None:
    """Cancel runs; without RUN, end the whole sweep as Ctrl-C does (it can be continued)."""
    from kourou.cli.sweep.control import cancel_runs

    cancel_runs(folder, runs or [])


@sweep_app.command()
def retry(folder: Path, runs: Runs = None) -> None:
    """Run failed, cancelled or lost runs again; without RUN, all that failed or were lost."""
    from kourou.cli.sweep.control import retry_runs

    retry_runs(folder, runs or [])


@sweep_app.command()
def results(
    folder: Folder = HERE,
    *,
    sort: Annotated[Optional[str], typer.Option(help="A metric: the setting with the highest mean first.")] = None,
    lowest_first: Annotated[
        bool, typer.Option("--lowest-first", help="Sort by the lowest mean, as for losses.")
    ] = False,
    runs: Annotated[bool, typer.Option("--runs", help="A row for each run instead of each setting.")] = False,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write all rows to a .csv or .json.")] = None,
    json: Json = False,
) -> None:
    """Show what each setting reached: the mean of its runs' last values, ± the half of its 95 % interval."""
    from kourou.cli.sweep.results import show_results
    from kourou.experiments.journal.sweep_folder import find_sweep

    show_results(find_sweep(folder), output=output, as_json=json, each_run=runs, sort=sort, lowest_first=lowest_first)


@sweep_app.command()
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
    from kourou.cli.sweep.results import draw_results
    from kourou.experiments.journal.sweep_folder import find_sweep

    draw_results(find_sweep(folder), metrics=metric, by=by, bandwidth=smooth, band=band, output=output)


@sweep_app.command()
def init(
    command: Annotated[list[str], typer.Argument(help="A script, or after -- the words of a command.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a first sweep file from what a command's own --help tells (argparse, typer, click, tyro, Hydra)."""
    from kourou.cli.sweep.first_file import write_first_file

    write_first_file(command, output)


@sweep_app.command()
def schema() -> None:
    """Print the JSON Schema of sweep files, from which editors complete and check them."""
    from kourou.cli.terminal.output import print_json
    from kourou.experiments.describe.sweepfile import sweep_schema

    print_json(sweep_schema())
