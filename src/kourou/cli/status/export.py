"""``kourou export``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from kourou import errors
from kourou.cli.terminal.output import FAILED, tell
from kourou.runtime.metrics.export import Export
from kourou.runtime.metrics.exporters import check_exporters
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import choose_run

_EVERY_S = 1.0


def export_metrics(word: str, runs_dir: Path | None, names: Sequence[str], *, follow: bool) -> None:
    """Hand metrics on to exporters.

    Raises:
        PlanError: there is no such exporter.
        MissingExtra: its package is not installed.
        NotFound: there is no such run, or nothing was logged.
    """
    check_exporters(names)
    given = Path(word)
    found: FoundRun | None = None
    if (given / METRICS_FILE).is_file():
        folder, run, program = given.absolute(), given.absolute().name, given.absolute().parent.name
    else:
        found = choose_run(word, runs_dir)
        folder, run, program = Path(found.info.metrics_dir or found.path), found.run_id, found.info.program
    if not follow and not (folder / METRICS_FILE).is_file():
        raise errors.NotFound(f"run {run} has logged nothing (yet); nodes do so with lp.log(step, loss=…)")
    export = Export(folder, names, run=run, program=program)
    count = export.step()
    with contextlib.suppress(KeyboardInterrupt):
        while follow and not export.failed and (found is None or found.state.live):
            time.sleep(_EVERY_S)
            count += export.step()
    export.close()
    if export.failed:
        raise typer.Exit(FAILED)
    tell(f"handed {count} rows of {folder} on to {', '.join(names)}")
