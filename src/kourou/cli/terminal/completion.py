"""What a shell offers after RUN and NODE. Files only: a completion must be there at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer


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
