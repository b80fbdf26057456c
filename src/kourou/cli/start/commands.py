"""``kourou run``, ``submit``, ``plan``, ``simulate`` and the hidden ``agent``, as typer reads them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.terminal.arguments import Json
from kourou.cli.terminal.completion import complete_run

start_app = typer.Typer()

Target = Annotated[
    str, typer.Argument(metavar="MODULE:FUNCTION", help="Returns the lp.Program; path/to/file.py:FUNCTION works too.")
]
Words = Annotated[Optional[list[str]], typer.Argument(metavar="[-- ARGS]", help="Arguments of FUNCTION.")]
LaunchType = Annotated[Optional[str], typer.Option(help="local_mt (the default), local_mp, test_mt, test_mp or ssh.")]
HostsOption = Annotated[
    Optional[str],
    typer.Option("--hosts", metavar="NAMES|FILE", help="For ssh: names with commas between them, or a file of hosts."),
]
SshConfig = Annotated[Optional[Path], typer.Option(help="For ssh's -F; by default the user's and the system's.")]
On = Annotated[
    Optional[str], typer.Option("--on", metavar="ENGINE", help="Where hosts come from: slurm, ray or kubernetes.")
]
LogTo = Annotated[
    Optional[str],
    typer.Option(metavar="NAMES", help="Where lp.log's metrics go as well: tensorboard, wandb, mlflow, otel."),
]
EngineWords = Annotated[
    Optional[list[str]],
    typer.Option("--option", "-o", metavar="FIELD=VALUE", help="Of the engine, such as partition=gpu, nodes=3."),
]


class PlanFormat(str, enum.Enum):
    """How ``kourou plan`` prints."""

    TABLE = "table"
    JSON = "json"
    MERMAID = "mermaid"


@start_app.command()
def run(  # noqa: PLR0913 - the options of a command
    target: Annotated[
        Optional[str],
        typer.Argument(metavar="MODULE:FUNCTION", help="Returns the lp.Program; path/to/file.py:FUNCTION works too."),
    ] = None,
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
    resume: Annotated[
        Optional[str],
        typer.Option(
            metavar="RUN",
            help="Go on with a run that has ended, from its checkpoints; without MODULE:FUNCTION as it was launched.",
            autocompletion=complete_run,
        ),
    ] = None,
) -> None:
    """Launch a program and wait for its end.

    Exit codes: 0 it finished, 1 a node failed, 2 a mistake in the command line or the program, 130 Ctrl-C.
    """
    from kourou.cli.start.run_and_plan import hosts_of, run_again, run_program
    from kourou.runtime.model.engines import engine_of

    if target is None:
        run_again(resume, run_dir)
        return
    run_program(
        target,
        words or [],
        launch_type=engine_of(on, option or []) or launch_type,
        terminal=terminal,
        run_dir=run_dir,
        hosts=hosts_of(hosts, ssh_config),
        log_to=log_to.split(",") if log_to else None,
        notify=notify,
        resume=resume,
    )


@start_app.command()
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
    from kourou.cli.start.run_and_plan import submit_program
    from kourou.runtime.model.engines import engine_of

    engine = engine_of(on, option or [])
    assert engine is not None  # noqa: S101 - an option that has to be given
    submit_program(target, words or [], engine=engine, run_dir=run_dir, as_json=json)


@start_app.command()
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
    from kourou.cli.start.run_and_plan import hosts_of, show_plan
    from kourou.runtime.model.engines import engine_of

    shown, where = "json" if json else form.value, engine_of(on, option or []) or launch_type
    show_plan(target, words or [], launch_type=where, form=shown, hosts=hosts_of(hosts, ssh_config))


@start_app.command()
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
            "calls that are lost, processes that are deaf to a stop; a message's seconds; how often an hour a node is "
            "added or removed: "
            "node=1%,host=1%,cut=1%,slow=5%,loss=0.1%,deaf=1%,delay=0.01,resize=6.",
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


@start_app.command(hidden=True)
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
    from kourou.runtime.host_agent.pipe_agent import main

    main(entry, silence)
