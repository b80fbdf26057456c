"""Sweeps of small commands for tests."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments import RunSpec
from kourou.experiments.journal.run_records import RunRecord
from kourou.experiments.sweep.launch import SweepOutcome, run_sweep
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share

QUICK = SweepOptions(interrupt_s=5.0, terminate_s=1.0)


def shell_run(top: Path, name: str, script: str, **fields: Any) -> RunSpec:
    """A run that a shell does; ``$KOUROU_RUN_DIR`` is its folder."""
    return RunSpec(name=name, folder=str(top / "runs" / name), command=("sh", "-c", script), **fields)


def python_run(top: Path, name: str, code: str, *words: str, **fields: Any) -> RunSpec:
    """A run that a fresh Python does."""
    return RunSpec(name=name, folder=str(top / "runs" / name), command=(sys.executable, "-c", code, *words), **fields)


def function_run(top: Path, name: str, function: Callable[..., Any], **params: Any) -> RunSpec:
    """A run that calls a function."""
    return RunSpec(name=name, folder=str(top / "runs" / name), function=function, params=params)


def sweep(top: Path, runs: Sequence[RunSpec], parallel: int = 2, **options: Any) -> SweepOutcome:
    """Run them in ``top / "sweep"``."""
    engine = options.pop("engine", QUICK)
    return run_sweep(runs, top / "sweep", share=Share(parallel=parallel), options=engine, **options)


def states(outcome: SweepOutcome) -> dict[str, str]:
    """Name → state."""
    return {record.name: str(record.state) for record in outcome.records}


def by_name(outcome: SweepOutcome) -> dict[str, RunRecord]:
    """Name → record."""
    return {record.name: record for record in outcome.records}


def happened(top: Path) -> list[tuple[str, str]]:
    """Kind and run of every event of the sweep's journal, in order."""
    db = sqlite3.connect(top / "sweep" / "sweep.sqlite")
    try:
        return list(db.execute("SELECT kind, run FROM events ORDER BY seq"))
    finally:
        db.close()
