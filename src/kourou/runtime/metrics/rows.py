"""One row of metrics as a line of JSON; and the one rule for names and values that it cannot hold as they are.

A value is a number, a text, a truth value or nothing. Numbers of other packages (NumPy's, also as an array of one
element; torch's, JAX's, decimals) become plain; those that are not finite become their names. All else is written as
its text, cut if it is long, and that is said once on standard error: nothing that is logged ends a training.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from kourou.shown import shown

METRICS_FILE = "metrics.jsonl"
"""In a run's folder."""

ATTEMPT, RESTART = "_attempt", "_restart"
"""Marks of rows: how often the run, and the node in it, had been started, where that is more than once."""
CONFIG, IMAGE = "_config", "_image"
"""What rows have instead of metrics that tell of settings, or of a picture."""

_TAKEN = frozenset({"step", "time", "node", ATTEMPT, RESTART, CONFIG, IMAGE})
_LONGEST_NAME = 200
_LONGEST_TEXT = 4000
_LARGEST_INT = 1 << 63
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode


def encode_row(step: Any, metrics: Mapping[str, Any], marks: Mapping[str, Any]) -> str:
    """A line, without its end."""
    row: dict[str, Any] = {}
    step = plain_value("step", step)
    if isinstance(step, (int, float)) and abs(step) < _LARGEST_INT:
        row["step"] = step
    elif step is not None:
        _tell("step", f"a step is a finite number below 2**63, got {step}; such a row has none")
    row["time"] = round(time.time(), 3)
    row.update(marks)
    for name, value in metrics.items():
        plain = value if type(value) is float and math.isfinite(value) else plain_value(name, value)  # most are
        row[name if name not in _TAKEN and 0 < len(name) <= _LONGEST_NAME else _free_name(name)] = plain
    return _to_json(row)


def plain_value(name: str, value: Any) -> Any:
    """A value as JSON holds it."""
    try:
        if not isinstance(value, (bool, int, float, str)) and callable(getattr(value, "item", None)):
            value = value.item()
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, str):
            return _cut(str(value))
        if isinstance(value, int):
            return int(value) if -_LARGEST_INT <= value < _LARGEST_INT else _finite(float(value))
        if isinstance(value, float) or (hasattr(value, "__float__") and not hasattr(value, "__len__")):
            return _finite(float(value))
    except Exception:  # noqa: BLE001, S110 - whatever a user's class raises, its text is logged
        pass
    text = shown(value, _LONGEST_TEXT)
    _tell(name, f"{_described(value)} is no number and no text; its text is written")
    return text


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row that are numbers, also such that are not finite."""
    return {
        name: value
        for name, value in row.items()
        if name not in _TAKEN and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def plain_config(value: Any) -> Any:
    """Settings as JSON holds them: mappings and sequences of what :func:`plain_value` takes, and texts of all else."""
    if isinstance(value, Mapping):
        return {_cut(str(name)): plain_config(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_config(inner) for inner in value]
    if isinstance(value, (str, int, float)) or value is None or callable(getattr(value, "item", None)):
        return plain_value("config", value)
    return shown(value, _LONGEST_TEXT)


def _described(value: Any) -> str:
    with contextlib.suppress(Exception):  # a user's class may raise anything
        if len(value.shape):
            return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return shown(value)


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"


def _free_name(name: str) -> str:
    """A name for what cannot have its own."""
    free = f"{name[:_LONGEST_NAME]}_"
    _tell(name, f"written as {free!r}, since it is empty, long, or what each row has already")
    return free


_told: set[str] = set()
_MOST_TOLD = 20


def _tell(name: str, what: str) -> None:
    """Say on standard error, once for each metric, what was done with it."""
    if name in _told or len(_told) >= _MOST_TOLD:
        return
    _told.add(name)
    warn(f"metric {name[:_LONGEST_NAME]!r}: {what}")


def warn(text: str) -> None:
    """A line on standard error, which is the node's log."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed, or there is none
        print(f"kourou: {text}", file=sys.stderr)  # noqa: T201 - the node's log
