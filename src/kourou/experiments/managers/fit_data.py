"""What one fit wrote while it trained, as a table with rlberry's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kourou.extras import load_extra
from kourou.runtime.metrics.reading import read_metrics
from kourou.runtime.metrics.rows import METRICS_FILE

_COLUMNS = ["name", "tag", "value", "dw_time_elapsed", "global_step"]


def fit_data(folder: Path, name: str) -> Any:
    """A DataFrame with one row for each number that a fit wrote so far; None: there is none.

    Columns: ``name`` (the agent's), ``tag``, ``value``, ``dw_time_elapsed`` (seconds since the fit's first number),
    ``global_step``.
    """
    if not (folder / METRICS_FILE).exists():
        return None
    rows = []
    first = None
    for record in read_metrics(folder):
        first = record["time"] if first is None else first
        elapsed, step = record["time"] - first, record["step"]
        rows += [(name, tag, value, elapsed, step) for tag, value in record.items() if tag not in {"time", "step"}]
    return load_extra("pandas").DataFrame(rows, columns=_COLUMNS) if rows else None
