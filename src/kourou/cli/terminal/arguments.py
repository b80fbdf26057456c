"""The arguments and options that several commands take, as typer reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from kourou.runtime.monitoring.found_run import FoundRun


def complete_run(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """All runs, the newest first."""
    for run in _runs(context):
        if run.run_id.startswith(incomplete):
            yield run.run_id, f"{run.info.program}, {run.state}"


def complete_started_run(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The live runs only."""
    for run in _runs(context):
        if run.run_id.startswith(incomplete) and run.state.live:
            yield run.run_id, run.info.program


def complete_node(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The nodes of the run that stands before."""
    from kourou import errors
    from kourou.runtime.monitoring.run_search import choose_run

    try:
        found = choose_run(context.params.get("run") or "last", context.params.get("runs_dir"))
    except (errors.NotFound, errors.NotOwned):
        return
    for node in found.status().nodes:
        if node.name.startswith(incomplete):
            yield node.name


def _runs(context: typer.Context) -> list[Any]:
    from kourou.runtime.monitoring.run_search import find_runs

    return list(find_runs(context.params.get("runs_dir")))


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
