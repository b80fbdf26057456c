"""The commands, as typer reads them. What they do is in the other modules, imported by the command that needs it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Optional

import typer

import kourou
from kourou.cli.completion import complete_node, complete_run, complete_started_run
from kourou.cli.sweep.commands import sweep_app
from kourou.cli.terminal.output import report_errors

__all__ = ["app"]

app = typer.Typer(
    name="kourou",
    help="A program runtime for distributed machine learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a user's traceback as Python prints it, without pages of locals
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(sweep_app)

Target = Annotated[
    str, typer.Argument(metavar="MODULE:FUNCTION", help="Returns the lp.Program; path/to/file.py:FUNCTION works too.")
]
Words = Annotated[Optional[list[str]], typer.Argument(metavar="[-- ARGS]", help="Arguments of FUNCTION.")]
LaunchType = Annotated[Optional[str], typer.Option(help="local_mt, local_mp, test_mt, test_mp or ssh.")]
HostsOption = Annotated[
    Optional[str],
    typer.Option("--hosts", metavar="NAMES|FILE", help="For ssh: names with commas between them, or a file of hosts."),
]
SshConfig = Annotated[Optional[Path], typer.Option(help="For ssh's -F; by default the user's and the system's.")]
On = Annotated[
    Optional[str], typer.Option("--on", metavar="ENGINE", help="Where hosts come from: slurm, ray or kubernetes.")
]
EngineWords = Annotated[
    Optional[list[str]],
    typer.Option("--option", "-o", metavar="FIELD=VALUE", help="Of the engine, such as partition=gpu, nodes=3."),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name or its beginning; '-' is the newest.", autocompletion=complete_run
    ),
]
LiveRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name or its beginning; '-' is the newest.", autocompletion=complete_started_run
    ),
]
Node = Annotated[str, typer.Argument(metavar="NODE", help="label/index, or a label.", autocompletion=complete_node)]
RunsDir = Annotated[
    Optional[Path], typer.Option("--runs-dir", help="Where runs are kept, if not in KOUROU_RUNS_DIR or its default.")
]
LogTo = Annotated[
    Optional[str], typer.Option(metavar="NAMES", help="Where lp.log's metrics go as well: tensorboard, wandb, mlflow.")
]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON.")]


class PlanFormat(str, enum.Enum):
    """How ``kourou plan`` prints."""

    TABLE = "table"
    JSON = "json"
    MERMAID = "mermaid"


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"kourou {kourou.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A program runtime for distributed machine learning."""
    del version  # its callback has printed it


@app.command()
@report_errors()
def run(  # noqa: PLR0913 - the options of a command
    target: Target,
    words: Words = None,
    *,
    launch_type: LaunchType = None,
    terminal: Annotated[Optional[str], typer.Option(help="current_terminal, output_to_files or tmux_session.")] = None,
    run_dir: Annotated[Optional[Path], typer.Option(help="Where the run's folder is made.")] = None,
    hosts: HostsOption = None,
    ssh_config: SshConfig = None,
    on: On = None,
    option: EngineWords = None,
    log_to: LogTo = None,
    notify: Annotated[Optional[str], typer.Option(metavar="URL", help="A webhook that is told how it ended.")] = None,
) -> None:
    """Launch a program and wait for its end.

    Exit codes: 0 it finished, 1 a node failed, 2 a mistake in the command line or the program, 130 Ctrl-C.
    """
    from kourou.cli.start.run_and_plan import engine_of, hosts_of, run_program

    run_program(
        target,
        words or [],
        launch_type=engine_of(on, option or []) or launch_type,
        terminal=terminal,
        run_dir=run_dir,
        hosts=hosts_of(hosts, ssh_config),
        log_to=log_to.split(",") if log_to else None,
        notify=notify,
    )


@app.command()
@report_errors()
def submit(
    target: Target,
    words: Words = None,
    *,
    on: Annotated[str, typer.Option("--on", metavar="ENGINE", help="Where it runs: slurm or kubernetes.")],
    option: EngineWords = None,
    run_dir: Annotated[Optional[Path], typer.Option(help="Where the run's folder is made; all hosts see it.")] = None,
    json: Json = False,
) -> None:
    """Hand a program to an engine as a batch job, and print the run's name. The shell may go away.

    ps, status, logs, call and stop find the run by its folder.
    """
    from kourou.cli.start.run_and_plan import engine_of, submit_program

    engine = engine_of(on, option or [])
    assert engine is not None  # noqa: S101 - an option that has to be given
    submit_program(target, words or [], engine=engine, run_dir=run_dir, as_json=json)


@app.command()
@report_errors()
def plan(  # noqa: PLR0913 - the options of a command
    target: Target,
    words: Words = None,
    *,
    launch_type: LaunchType = None,
    form: Annotated[PlanFormat, typer.Option("--format", help="How to print it.")] = PlanFormat.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    hosts: HostsOption = None,
    ssh_config: SshConfig = None,
    on: On = None,
    option: EngineWords = None,
) -> None:
    """Print what a launch would start, and start nothing."""
    from kourou.cli.start.run_and_plan import engine_of, hosts_of, show_plan

    shown, where = "json" if json else form.value, engine_of(on, option or []) or launch_type
    show_plan(target, words or [], launch_type=where, form=shown, hosts=hosts_of(hosts, ssh_config))


@app.command()
@report_errors()
def simulate(  # noqa: PLR0913 - the options of a command
    target: Target,
    words: Words = None,
    *,
    nodes: Annotated[Optional[int], typer.Option(min=1, help="Grow the largest group until there are so many.")] = None,
    hosts: Annotated[int, typer.Option(min=1, help="Simulated hosts, each with 64 CPUs and 8 GPUs.")] = 1,
    faults: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Shares of nodes that fail, and hosts that die or are cut off, in an hour; of starts that are slow, "
            "calls that are lost, processes that are deaf to a stop; a message's seconds: "
            "node=1%,host=1%,cut=1%,slow=5%,loss=0.1%,deaf=1%,delay=0.01.",
        ),
    ] = "",
    hours: Annotated[float, typer.Option(min=0.0, help="Simulated time until the stop.")] = 24.0,
    seed: Annotated[int, typer.Option(help="The same one leads to the same run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Simulate with so many, from --seed on.")] = 1,
    json: Json = False,
) -> None:
    """Let a program's run happen under a simulated clock: real decisions, simulated processes, hosts and faults.

    Exit codes: 0 it could be simulated, 1 what must hold of every run did not: the seed shows it again.
    """
    from kourou.cli.start.simulate import simulate_program

    simulate_program(
        target,
        words or [],
        nodes=nodes,
        hosts=hosts,
        faults=faults,
        hours=hours,
        seed=seed,
        seeds=seeds,
        as_json=json,
    )


@app.command(hidden=True)
@report_errors()
def agent(
    *,
    entry: Annotated[
        str, typer.Option(help="The module that serves the launcher.")
    ] = "kourou.runtime.host_agent.host_service",
    silence: Annotated[float, typer.Option(help="Seconds without a word after which the launcher is dead.")] = 12.0,
) -> None:
    """Be what a launcher starts on a host: processes there, steered through standard input and output.

    Not for people. It listens on no port, and ends with its input.
    """
    from kourou.runtime.host_agent.main import main

    main(entry, silence)


@app.command()
@report_errors()
def ps(
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Those that have ended, too.")] = False,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the runs that are live; --all lists those that have ended as well."""
    from kourou.cli.status.ps import list_runs

    list_runs(runs_dir, every=every, as_json=json)


@app.command()
@report_errors()
def status(
    run: Run = "last",
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until the run ends.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show a run's nodes: state, process, CPU, memory, calls a second and last line. Without RUN, the newest."""
    from kourou.cli.control.there import chosen_run
    from kourou.cli.status.status import show_status

    show_status(chosen_run(run, runs_dir), watch=watch, interval_s=interval, as_json=json)


@app.command()
@report_errors()
def logs(  # noqa: PLR0913 - the options of a command
    run: Run = "last",
    nodes: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[NODE]...", help="label/index, a label, or 'act*'.", autocompletion=complete_node),
    ] = None,
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
    from kourou.cli.control.there import chosen_run
    from kourou.cli.status.logs import LogFilter, show_logs

    chosen = LogFilter(nodes=nodes or (), grep=grep, since=since)
    show_logs(chosen_run(run, runs_dir), chosen, follow=follow, lines=lines, times=times, as_json=json)


@app.command()
@report_errors()
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
    from kourou.cli.control.there import chosen_run
    from kourou.cli.status.plot import plot_run

    plot_run(chosen_run(run, runs_dir), metrics or (), output=output, as_json=json)


@app.command()
@report_errors()
def trace(
    run: LiveRun = "last",
    nodes: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[NODE]...", help="label/index, a label, or 'act*'.", autocompletion=complete_node),
    ] = None,
    *,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.0, help="For how long.")] = 5.0,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The file; by default trace.json in the run's folder.")
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Record what the nodes of a live run call and answer, as one trace for Perfetto with arrows between them."""
    from kourou.cli.control.there import chosen_run
    from kourou.cli.status.trace import trace_run

    trace_run(chosen_run(run, runs_dir), nodes or (), seconds=seconds, output=output)


@app.command()
@report_errors()
def metrics(
    run: LiveRun = "last",
    *,
    port: Annotated[
        Optional[int], typer.Option(min=0, help="Serve them at /metrics of this port until the run ends; 0: any.")
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Print a live run's numbers as Prometheus reads them; or serve them, to who shows the run's token."""
    from kourou.cli.control.there import chosen_run
    from kourou.cli.status.prometheus import serve_metrics

    serve_metrics(chosen_run(run, runs_dir), port)


@app.command()
@report_errors()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN|FOLDER", autocompletion=complete_run)] = "last",
    *,
    log_to: Annotated[str, typer.Option(metavar="NAMES", help="tensorboard, wandb, mlflow; with commas between them.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Hand what a run (or a sweep's, by its folder) logged with lp.log on to TensorBoard and the like."""
    from kourou.cli.status.export import export_metrics

    export_metrics(run, runs_dir, log_to.split(","), follow=follow)


@app.command()
@report_errors()
def stop(
    run: LiveRun,
    *,
    timeout_s: Annotated[
        Optional[float],
        typer.Option("--timeout", min=0.0, help="Seconds to wait for the end; by default as long as it may take."),
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Ask a run to end, and wait until it has."""
    from kourou.cli.control.stop_and_call import stop_run
    from kourou.cli.control.there import chosen_run

    stop_run(chosen_run(run, runs_dir), timeout_s=timeout_s, as_json=json)


@app.command()
@report_errors()
def restart(
    run: LiveRun,
    node: Annotated[
        str,
        typer.Argument(metavar="NODE", help="label/index, a label, or 'act*'.", autocompletion=complete_node),
    ],
    *,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the new start.")] = 30.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """End a node and start it again, whatever its policy; its process is killed, and its callers get NodeRestarted."""
    from kourou.cli.control.restart import restart_nodes
    from kourou.cli.control.there import chosen_run

    restart_nodes(chosen_run(run, runs_dir), node, timeout_s=timeout_s, as_json=json)


@app.command(context_settings={"ignore_unknown_options": True})  # -1 is an argument of the method
@report_errors()
def call(
    run: LiveRun,
    node: Node,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of the node's methods.")],
    words: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[JSON]...", help="Arguments, each as JSON; bare words are strings."),
    ] = None,
    *,
    kwargs: Annotated[str, typer.Option(metavar="JSON", help="Keyword arguments, as a JSON object.")] = "{}",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the answer; 0: for ever.")
    ] = 60.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Call a method of a node and print what it returns."""
    from kourou.cli.control.stop_and_call import call_method
    from kourou.cli.control.there import chosen_run

    found = chosen_run(run, runs_dir)
    call_method(found, node, method, words or [], kwargs=kwargs, timeout_s=timeout_s, as_json=json)


@app.command()
@report_errors()
def debug(
    run: LiveRun,
    node: Node,
    *,
    py_spy: Annotated[bool, typer.Option("--py-spy", help="py-spy's view, which needs no help of the node.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print the stacks of all threads of a node; it goes on undisturbed."""
    from kourou.cli.control.debugging import show_stacks
    from kourou.cli.control.there import chosen_run

    show_stacks(chosen_run(run, runs_dir), node, py_spy=py_spy)


@app.command()
@report_errors()
def attach(run: LiveRun, node: Node, *, json: Json = False, runs_dir: RunsDir = None) -> None:
    """Let a node listen for a debugger (debugpy), and say how VS Code attaches to it. Needs the extra debug."""
    from kourou.cli.control.profiling import attach_debugger
    from kourou.cli.control.there import chosen_run

    attach_debugger(chosen_run(run, runs_dir), node, as_json=json)


@app.command()
@report_errors()
def profile(
    run: LiveRun,
    node: Node,
    *,
    duration_s: Annotated[int, typer.Option("--duration", min=1, help="Seconds to look for.")] = 10,
    out: Annotated[
        Optional[Path], typer.Option("--out", "-o", help="The file; by default NODE.speedscope.json.")
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """See where a node spends its time (py-spy), as a file for speedscope. Needs the extra debug, and often root."""
    from kourou.cli.control.profiling import record_profile
    from kourou.cli.control.there import chosen_run

    record_profile(chosen_run(run, runs_dir), node, duration_s=duration_s, out=out)


@app.command()
@report_errors()
def doctor(run: Run = "last", *, json: Json = False, runs_dir: RunsDir = None) -> None:
    """Say why a run does not go on, who waits for whom and what would end it; or how it ended. Without RUN: the newest.

    Exit codes: 0 healthy, 3 some nodes make no progress, 4 it will not go on by itself, or has failed.
    """
    from kourou.cli.control.doctor import show_diagnosis
    from kourou.cli.control.there import chosen_run

    show_diagnosis(chosen_run(run, runs_dir), as_json=json)


@app.command()
@report_errors()
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


@app.command()
@report_errors()
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
