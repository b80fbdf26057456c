"""``kourou report`` as typer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from kourou.cli.terminal.arguments import RunOrFolder, RunsDir

report_app = typer.Typer()


@report_app.command()
def report(
    run: RunOrFolder = "last",
    *,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The file; by default report.html in its folder.")
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Write one page about a run or a sweep, which needs nothing else: its end, nodes, timeline, curves, results."""
    from kourou.cli.report.writing import write_report

    write_report(run, runs_dir, output)
