"""``kourou report``."""

from __future__ import annotations

from pathlib import Path

from kourou import errors
from kourou.cli.report.run import run_page
from kourou.cli.report.sweep import sweep_page
from kourou.cli.terminal.cluster_runs import chosen_run
from kourou.cli.terminal.output import print_text
from kourou.experiments.journal.journal import JOURNAL_FILE
from kourou.experiments.journal.sweep_folder import find_sweep
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import find_run

_FILE = "report.html"


def write_report(word: str, runs_dir: Path | None, output: Path | None) -> None:
    """Write the page of a run or a sweep.

    Args:
        word: a run, as a person means it; or the folder of a run, of a sweep, or one above a sweep's.
        runs_dir: where runs are.
        output: the file; None: one in the folder of the run or sweep.

    Raises:
        NotFound: there is no such run, and no sweep.
    """
    meant = _meant(word, runs_dir)
    text, folder = (run_page(meant), meant.path) if isinstance(meant, FoundRun) else (sweep_page(meant), meant)
    file = output or folder / _FILE
    file.write_text(text, encoding="utf-8")
    print_text(str(file))


def _meant(word: str, runs_dir: Path | None) -> FoundRun | Path:
    given = Path(word)
    if (given / JOURNAL_FILE).exists():
        return given.absolute()
    if not given.is_dir():
        return chosen_run(word, runs_dir)
    try:
        return find_run(given.absolute())
    except errors.NotFound:
        return find_sweep(given)
