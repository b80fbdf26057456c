"""``kourou top`` as typer reads it."""

from __future__ import annotations

from typing import Annotated

import typer

from kourou.cli.terminal.arguments import Run, RunsDir, chosen_run

top_app = typer.Typer()


@top_app.command()
def top(
    run: Run = "last",
    *,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    runs_dir: RunsDir = None,
) -> None:
    """Watch a run on the whole terminal: nodes, who waits for whom, events, numbers; logs, stacks and restarts by keys.

    Without RUN, the newest. Needs the extra top.
    """
    from kourou.extras import load_extra

    load_extra("textual")
    from kourou.cli.top.app import show_top

    show_top(chosen_run(run, runs_dir), interval_s=interval)
