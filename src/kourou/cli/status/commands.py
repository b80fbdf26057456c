"""``kourou ps``, ``status``, ``logs`` and all that looks at runs, as typer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.terminal.arguments import Json, LiveRun, Nodes, Otlp, Run, RunOrFolder, RunsDir, chosen_run
from kourou.cli.terminal.completion import complete_run

status_app = typer.Typer()


@status_app.command()
def ps(
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Those that have ended, too.")] = False,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the runs and sweeps that are live; --all lists those that have ended as well."""
    from kourou.cli.status.ps import list_runs

    list_runs(runs_dir, every=every, as_json=json)


@status_app.command()
def clean(
    *,
    older_than: Annotated[str, typer.Option(help="Only runs that ended this long ago: 12h, 7d, 0 …")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete the folders of runs that ended long ago. Never that of a live run, nor what is no run."""
    from kourou.cli.status.ps import clean_runs
    from kourou.cli.terminal.formats import parse_duration

    clean_runs(runs_dir, older_than_s=parse_duration(older_than), dry_run=dry_run, as_json=json)


@status_app.command()
def status(
    run: Run = "last",
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until the run ends.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show a run's nodes: state, process, CPU, memory, calls a second and last line. Without RUN, the newest."""
    from kourou.cli.status.status import show_status

    show_status(chosen_run(run, runs_dir), watch=watch, interval_s=interval, as_json=json)


@status_app.command()
def logs(  # noqa: PLR0913 - the options of a command
    run: Run = "last",
    nodes: Nodes = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    lines: Annotated[Optional[int], typer.Option("--lines", "--tail", "-n", min=0, help="Only the last N.")] = None,
    grep: Annotated[Optional[str], typer.Option("--grep", "-g", help="Only what has this regular expression.")] = None,
    since: Annotated[Optional[str], typer.Option(help="Only of the last 10m, or from 2026-11-20T15:30 on.")] = None,
    times: Annotated[bool, typer.Option("--times", "-t", help="Say when each line was printed.")] = False,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print what the nodes of a run printed, in order; or what some of them did."""
    from kourou.cli.status.logs import LogFilter, show_logs

    chosen = LogFilter(nodes=nodes or (), grep=grep, since=since)
    show_logs(chosen_run(run, runs_dir), chosen, follow=follow, lines=lines, times=times, as_json=json)


@status_app.command()
def plot(
    run: Run = "last",
    metrics: Annotated[
        Optional[list[str]], typer.Argument(metavar="[METRIC]...", help="Some, such as 'loss*'.")
    ] = None,
    *,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="A .png, .svg, .pdf or .html; else one in the run's folder."),
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Draw what the nodes of a run log with lp.log: into a picture, and on the terminal."""
    from kourou.cli.status.plot import plot_run

    plot_run(chosen_run(run, runs_dir), metrics or (), output=output, as_json=json)


@status_app.command()
def trace(
    run: LiveRun = "last",
    nodes: Nodes = None,
    *,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.0, help="For how long.")] = 5.0,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The file; by default trace.json in the run's folder.")
    ] = None,
    otlp: Otlp = None,
    runs_dir: RunsDir = None,
) -> None:
    """Record what the nodes of a live run call and answer, as one trace for Perfetto with arrows between them."""
    from kourou.cli.status.trace import trace_run

    found, collector = chosen_run(run, runs_dir), "" if otlp == "env" else otlp
    trace_run(found, nodes or (), seconds=seconds, output=output, collector=collector)


@status_app.command()
def metrics(
    run: LiveRun = "last",
    *,
    port: Annotated[
        Optional[int], typer.Option(min=0, help="Serve them at /metrics of this port until the run ends; 0: any.")
    ] = None,
    otlp: Otlp = None,
    runs_dir: RunsDir = None,
) -> None:
    """Print a live run's numbers as Prometheus reads them; or serve them, to who shows the token; or send them."""
    from kourou.cli.status.prometheus import serve_metrics

    serve_metrics(chosen_run(run, runs_dir), port, "" if otlp == "env" else otlp)


@status_app.command()
def export(
    run: RunOrFolder = "last",
    *,
    log_to: Annotated[
        str, typer.Option(metavar="NAMES", help="tensorboard, wandb, mlflow, otel; with commas between them.")
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Hand what a run (or a sweep's, by its folder) logged with lp.log on to TensorBoard and the like."""
    from kourou.cli.status.export import export_metrics

    export_metrics(run, runs_dir, log_to.split(","), follow=follow)


@status_app.command()
def ui(
    run: Annotated[
        Optional[str],
        typer.Argument(metavar="[RUN]", help="The run that it opens with.", autocompletion=complete_run),
    ] = None,
    *,
    port: Annotated[Optional[int], typer.Option(min=0, max=65535, help="By default 7766 or any; 0: any.")] = None,
    host: Annotated[str, typer.Option(help="Where it listens: loopback, unless you say otherwise.")] = "127.0.0.1",
    sweeps: Annotated[Path, typer.Option(help="The folder below which sweeps are looked for.")] = Path(),
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Serve the dashboard of runs and sweeps, to a browser that shows its token. Needs the extra ui."""
    from kourou.cli.status.ui import serve_dashboard

    serve_dashboard(run, runs_dir, sweeps, host=host, port=port, browser=browser)
