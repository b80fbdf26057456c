"""What a run measures, in its folder: appended while it runs, one JSON object a line.

Lines of several processes do not mix, a line that a crash cut short is left out by the reader, and whoever looks while
the run is going on sees all finished lines.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kourou.experiments.failures import ResultsError

__all__ = [
    "METRICS_FILE",
    "RUN_ATTEMPT_VARIABLE",
    "RUN_DIR_VARIABLE",
    "log",
    "log_to",
    "read_metrics",
    "read_progress",
    "step_of",
]

METRICS_FILE = "metrics.jsonl"
RUN_DIR_VARIABLE = "KOUROU_RUN_DIR"
"""The environment variable that tells a run its folder."""
RUN_ATTEMPT_VARIABLE = "KOUROU_RUN_ATTEMPT"
"""And this one how often it was started, this time included."""

_ATTEMPT = "_attempt"  # marks the lines of a further attempt
_RESERVED = {"step", "time", _ATTEMPT}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def log(step: float, **metrics: Any) -> None:
    """Append what was measured at a step to the folder of this run.

    Args:
        step: how far the run has come, in whatever unit it counts: updates, frames, episodes.
        metrics: numbers, also NumPy's and torch's, or texts. Names with other characters go as ``**{"loss/actor": x}``.

    Raises:
        ResultsError: this process belongs to no run, or a value cannot be written.
    """
    folder = os.environ.get(RUN_DIR_VARIABLE)
    if not folder:
        raise ResultsError(
            f"log() writes to the folder of a run, and this process belongs to none: set {RUN_DIR_VARIABLE} to a folder"
        )
    attempt = int(os.environ.get(RUN_ATTEMPT_VARIABLE) or 1)
    _append(Path(folder), step, metrics, {_ATTEMPT: attempt} if attempt > 1 else {})


def log_to(run_dir: str | os.PathLike[str], /, step: float, **metrics: Any) -> None:
    """Append what was measured at a step to a folder, as ``log`` does.

    Raises:
        ResultsError: a value cannot be written.
    """
    _append(Path(run_dir), step, metrics, {})


def _append(run_dir: Path, step: float, metrics: Mapping[str, Any], marks: Mapping[str, Any]) -> None:
    reserved = _RESERVED.intersection(metrics)
    if reserved:
        raise ResultsError(f"a metric cannot be called {min(reserved)!r}: each line has one already")
    values = {"step": step, "time": round(time.time(), 3), **metrics, **marks}
    line = json.dumps({name: _json_value(name, value) for name, value in values.items()}, ensure_ascii=False) + "\n"
    file = os.open(run_dir / METRICS_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        end = os.fstat(file).st_size
        if end and os.pread(file, 1, end - 1) != b"\n":
            line = "\n" + line  # after a line that a crash cut short
        data = memoryview(line.encode("utf-8", errors="replace"))
        while data:  # one write does, save on a disk that is full to the last few bytes
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read what a run logged: one dictionary a line, with ``step``, ``time`` (seconds since 1970) and the metrics.

    Where a run was started again, what an earlier attempt had logged from the step on at which the later one began is
    left out: all of it, unless that one went on from a checkpoint.

    Args:
        path: the run's folder, or the file in it.

    Raises:
        FileNotFoundError: nothing was logged.
        ResultsError: a line that is no JSON object, other than one that a crash cut short.
    """
    marked = [(record.pop(_ATTEMPT, 1), record) for record in _records(_file(path, METRICS_FILE))]
    begun: dict[int, float] = {}
    for attempt, record in marked:
        begun[attempt] = min(begun.get(attempt, math.inf), record.get("step", 0))
    overtaken = {one: min((begun[other] for other in begun if other > one), default=math.inf) for one in begun}
    return [record for attempt, record in marked if record.get("step", 0) < overtaken[attempt] or len(begun) == 1]


def read_progress(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a ``progress.csv``, as rlpyt, baselines, rllab and Stable-Baselines3 write it. Empty cells are left out.

    Args:
        path: the run's folder, or the file in it.

    Raises:
        FileNotFoundError: there is none.
        ResultsError: a row has more cells than the header.
    """
    file = _file(path, "progress.csv")
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        whole = (line for line in lines if line.endswith("\n"))  # the last row may be under way
        for row in csv.DictReader(whole):
            if None in row:
                raise ResultsError(f"{file}: row {len(rows) + 1} has more cells than the header")
            rows.append({name: _read_number(cell) for name, cell in row.items() if cell not in {"", None}})
    return rows


def _records(file: Path) -> Iterator[dict[str, Any]]:
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line's end is under way
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            # Whoever appended after a crash ended the line that it had cut short.
            if not line.rstrip().endswith(b"}"):
                continue
            raise ResultsError(f"{file}: line {number} is no JSON: {error}") from error
        if not isinstance(record, dict):
            raise ResultsError(f"{file}: line {number} is no JSON object")
        yield {
            name: _NOT_FINITE.get(value, value) if isinstance(value, str) else value for name, value in record.items()
        }


def _file(path: str | os.PathLike[str], name: str) -> Path:
    given = Path(path)
    return given / name if given.is_dir() else given


def _json_value(name: str, value: Any) -> Any:
    """A value as JSON has it: numbers of other packages become plain, those that are not finite become their names."""
    if not isinstance(value, (bool, int, float, str)) and callable(getattr(value, "item", None)):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as error:
            raise ResultsError(f"metric {name!r} is an array of several numbers: {error}") from error
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ResultsError(f"metric {name!r} is a number or a text, got {value!r}")


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
