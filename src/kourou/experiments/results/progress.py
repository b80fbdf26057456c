"""What other programs leave of their measurements in a run's folder, read as ``read_metrics`` reads kourou's own."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou.experiments.failures import ResultsError


def read_progress(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a ``progress.csv``, as rlpyt, baselines, rllab and Stable-Baselines3 write it. Empty cells are left out.

    Args:
        path: the run's folder, or the file in it.

    Raises:
        FileNotFoundError: there is none.
        ResultsError: a row has more cells than the header.
    """
    given = Path(path)
    file = given / "progress.csv" if given.is_dir() else given
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        whole = (line for line in lines if line.endswith("\n"))  # the last row may be under way
        for row in csv.DictReader(whole):
            if None in row:
                raise ResultsError(f"{file}: row {len(rows) + 1} has more cells than the header")
            rows.append({name: _read_number(cell) for name, cell in row.items() if cell not in {"", None}})
    return rows


def _read_number(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(cell, cell)


def step_of(record: Mapping[str, Any], row: int) -> Any:
    """The step of a record: the column that one of the usual loggers counts in, else the row's number."""
    return next((record[name] for name in _STEP_COLUMNS if name in record), row)


_STEP_COLUMNS = (
    "step",
    "Step",
    "global_step",
    "Diagnostics/CumSteps",
    "time/total_timesteps",
    "total_timesteps",
    "TotalEnvSteps",
    "Diagnostics/Iteration",
)
