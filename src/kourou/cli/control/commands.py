"""``kourou stop``, ``call`` and all that is done to a run, as typer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.terminal.arguments import Json, LiveRun, Node, NodePattern, Run, RunsDir, chosen_run

control_app = typer.Typer()


@control_app.command()
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

    stop_run(chosen_run(run, runs_dir), timeout_s=timeout_s, as_json=json)


@control_app.command()
def explain(
    error: Annotated[str, typer.Argument(metavar="ERROR", help="Its name, such as NodeExited.")],
) -> None:
    """Say what an error means, and what to do about it."""
    from kourou.cli.control.explain import explain_error

    explain_error(error)


@control_app.command()
def restart(
    run: LiveRun,
    node: NodePattern,
    *,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the new start.")] = 30.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """End a node and start it again, whatever its policy; its process is killed, and its callers get NodeRestarted."""
    from kourou.cli.control.restart_and_scale import restart_nodes

    restart_nodes(chosen_run(run, runs_dir), node, timeout_s=timeout_s, as_json=json)


@control_app.command()
def scale(
    run: LiveRun,
    groups: Annotated[list[str], typer.Argument(metavar="LABEL=NUMBER...", help="How many nodes a group shall have.")],
    *,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.0, help="Seconds to wait for those that come or go.")
    ] = 60.0,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Let groups of a live run grow or shrink; those with the highest numbers go, and their callers get NodeRemoved."""
    from kourou.cli.control.restart_and_scale import scale_run

    scale_run(chosen_run(run, runs_dir), groups, timeout_s=timeout_s, as_json=json)


@control_app.command(context_settings={"ignore_unknown_options": True})  # -1 is an argument of the method
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

    found = chosen_run(run, runs_dir)
    call_method(found, node, method, words or [], kwargs=kwargs, timeout_s=timeout_s, as_json=json)


@control_app.command()
def debug(
    run: LiveRun,
    node: Node,
    *,
    py_spy: Annotated[bool, typer.Option("--py-spy", help="py-spy's view, which needs no help of the node.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print the stacks of all threads of a node; it goes on undisturbed."""
    from kourou.cli.control.profiling import show_stacks

    show_stacks(chosen_run(run, runs_dir), node, py_spy=py_spy)


@control_app.command()
def attach(run: LiveRun, node: Node, *, json: Json = False, runs_dir: RunsDir = None) -> None:
    """Let a node listen for a debugger (debugpy), and say how VS Code attaches to it. Needs the extra debug."""
    from kourou.cli.control.profiling import attach_debugger

    attach_debugger(chosen_run(run, runs_dir), node, as_json=json)


@control_app.command()
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

    record_profile(chosen_run(run, runs_dir), node, duration_s=duration_s, out=out)


@control_app.command()
def doctor(run: Run = "last", *, json: Json = False, runs_dir: RunsDir = None) -> None:
    """Say why a run does not go on, who waits for whom and what would end it; or how it ended. Without RUN: the newest.

    Exit codes: 0 healthy, 3 some nodes make no progress, 4 it will not go on by itself, or has failed.
    """
    from kourou.cli.control.doctor import show_diagnosis

    show_diagnosis(chosen_run(run, runs_dir), as_json=json)
