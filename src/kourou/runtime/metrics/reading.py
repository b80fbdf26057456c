"""Reading the rows of a run, while it runs and after it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kourou.errors import ResultsError
from kourou.runtime.files.growing_file import GrowingFile, tail
from kourou.runtime.metrics.rows import ATTEMPT, CONFIG, IMAGE, METRICS_FILE, RESTART, numbers_of

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LAST_BYTES = 1 << 17  # of the file, in which the last rows of all nodes are looked for


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read what a run logged: one dictionary a row, with ``step``, ``time`` (seconds since 1970) and the metrics.

    Rows of a program's nodes have a ``node`` as well. Where a run, or a node, was started again, what an earlier
    attempt had logged from the step on at which the later one began is left out: all of it, unless that one went on
    from a checkpoint.

    Args:
        path: the run's folder, or the file in it.

    Raises:
        FileNotFoundError: nothing was logged.
        ResultsError: a line that is no JSON object, other than one that a crash cut short.
    """
    marked = [
        ((record.get("node"), record.pop(ATTEMPT, 1), record.pop(RESTART, 1)), record)
        for record in _records(path)
        if CONFIG not in record and IMAGE not in record
    ]
    begun: dict[Any, dict[tuple[int, int], float]] = {}  # node → attempt → its first step
    for (node, *attempt), record in marked:
        steps = begun.setdefault(node, {})
        steps[tuple(attempt)] = min(steps.get(tuple(attempt), math.inf), _step(record))
    overtaken = {
        (node, *attempt): min(step for other, step in steps.items() if other > attempt)
        for node, steps in begun.items()
        for attempt in steps
        if attempt != max(steps)
    }
    return [record for mark, record in marked if mark not in overtaken or _step(record) < overtaken[mark]]


def _step(record: dict[str, Any]) -> float:
    step = record.get("step")
    return step if isinstance(step, (int, float)) else math.inf


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a run as ``lp.log_config`` recorded them; what was recorded last counts.

    Raises:
        FileNotFoundError: nothing was logged.
    """
    config: dict[str, Any] = {}
    for record in _records(path):
        config.update(record.get(CONFIG, {}))
    return config


def read_images(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The pictures of a run: ``step``, ``time``, ``node``, ``name`` and ``file``, relative to the run's folder.

    Raises:
        FileNotFoundError: nothing was logged.
    """
    return [{**record, **record.pop(IMAGE)} for record in _records(path) if IMAGE in record]


def last_metrics(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """What each node logged last, of those that logged lately: step, time and the latest value of each metric.

    Numbers that are not finite are their names, as JSON needs it.
    """
    lines = tail(Path(folder, METRICS_FILE), _LAST_BYTES).split(b"\n")
    last: dict[str, dict[str, Any]] = {}
    for line in lines[:-1]:
        record = _record(line, named=True)
        if record is not None and CONFIG not in record and IMAGE not in record:
            marks = {ATTEMPT, RESTART, "node"}
            row = {name: value for name, value in record.items() if name not in marks}
            last.setdefault(record.get("node", ""), {}).update(row)
    return last


class RowFollower:
    """The rows of a file, each once, as they come; also before there is one."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.read_lines = GrowingFile(Path(folder, METRICS_FILE)).read_lines
        """Reads the lines that were added; a part of them, where there are many."""

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows that were added; those that are no rows are left out."""
        while lines := self.read_lines():
            for line in lines.split(b"\n"):
                record = _record(line)
                if record is not None:
                    yield record


def _records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    given = Path(path)
    file = given / METRICS_FILE if given.is_dir() else given
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line's end is under way
        if not line.strip():
            continue
        record = _record(line)
        if record is not None:
            yield record
        elif line.rstrip().endswith(b"}"):  # whoever appended after a crash ended the line that it had cut short
            raise ResultsError(f"{file}: line {number} is no JSON")
        elif line.rstrip().endswith(b"]"):
            raise ResultsError(f"{file}: line {number} is no JSON object")


def _record(line: bytes, *, named: bool = False) -> dict[str, Any] | None:
    """The row of a line; None: it is none. ``named`` leaves numbers that are not finite as they stand there."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    if named:
        return record
    return {name: _NOT_FINITE.get(value, value) if isinstance(value, str) else value for name, value in record.items()}


class Curve(NamedTuple):
    """One metric of one node."""

    metric: str
    node: str
    steps: list[float]
    values: list[float]


def curves_of(rows: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """The curves of rows, metric by metric in the order of their first rows; steps ascend.

    A row without a step takes the number of its node's row; what is no finite number is left out.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        node = str(row.get("node", ""))
        counts[node] = counts.get(node, -1) + 1
        step = row.get("step", counts[node])
        for name, value in numbers_of(row).items():
            if math.isfinite(value):
                found.setdefault(name, {}).setdefault(node, {})[step] = value  # what was logged again counts
    curves = []
    for metric, nodes in found.items():
        for node, points in nodes.items():
            steps = sorted(points)
            curves.append(Curve(metric, node, steps, [points[step] for step in steps]))
    return curves
