"""The arguments and options that several commands take, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from kourou.cli.terminal.completion import complete_node, complete_run, complete_started_run

if TYPE_CHECKING:
    from kourou.runtime.monitoring.found_run import FoundRun

_RUN = "A run's name or its beginning; '-' is the newest."
_NODES = "label/index, a label, or 'act*'."

Run = Annotated[str, typer.Argument(metavar="RUN", help=_RUN, autocompletion=complete_run)]
RunOrFolder = Annotated[str, typer.Argument(metavar="RUN|FOLDER", autocompletion=complete_run)]
LiveRun = Annotated[str, typer.Argument(metavar="RUN", help=_RUN, autocompletion=complete_started_run)]
Node = Annotated[str, typer.Argument(metavar="NODE", help="label/index, or a label.", autocompletion=complete_node)]
NodePattern = Annotated[str, typer.Argument(metavar="NODE", help=_NODES, autocompletion=complete_node)]
Nodes = Annotated[Optional[list[str]], typer.Argument(metavar="[NODE]...", help=_NODES, autocompletion=complete_node)]
RunsDir = Annotated[
    Optional[Path], typer.Option("--runs-dir", help="Where runs are kept, if not in KOUROU_RUNS_DIR or its default.")
]
Otlp = Annotated[
    Optional[str],
    typer.Option(
        metavar="URL", help="An OpenTelemetry collector, such as http://localhost:4318; 'env': see its variables."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON.")]


def chosen_run(run: str, runs_dir: Path | None) -> FoundRun:
    """See :func:`kourou.cli.terminal.cluster_runs.chosen_run`, which is imported when a command needs it."""
    from kourou.cli.terminal import cluster_runs

    return cluster_runs.chosen_run(run, runs_dir)
