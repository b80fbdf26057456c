"""Where agents write their metrics: to disk at once, and on request to TensorBoard's files as well."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kourou.extras import load_extra
from kourou.runtime.metrics.event_files import EventWriter
from kourou.runtime.metrics.log import log_to
from kourou.runtime.metrics.reading import read_metrics
from kourou.runtime.metrics.rows import METRICS_FILE


class Writer:
    """Appends scalars to a fit's ``metrics.jsonl``, so that whatever becomes of the fit, what it measured is there.

    Args:
        folder: of the fit; None: what is written goes nowhere.
        tensorboard: what writes TensorBoard's event files; None: nothing does.
        on_scalar: called with tag, value and step of each scalar, after it was written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        *,
        tensorboard: EventWriter | None = None,
        on_scalar: Callable[[str, float, float], None] | None = None,
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._events = tensorboard
        self._on_scalar = on_scalar
        self._rows: Counter[str] | None = None  # of each tag; None: not counted yet

    def add_scalar(self, tag: str, value: Any, global_step: float | None = None) -> None:
        """Write a number.

        Args:
            tag: its name.
            value: it; NumPy's and torch's scalars are numbers too.
            global_step: how far training has come; None: how many numbers of this tag there are already, those of
                earlier calls of ``fit`` included.

        Raises:
            ResultsError: not one number.
            OSError: the disk is full, or the like.
        """
        step = self._next_step(tag) if global_step is None else global_step
        if self._folder is not None:
            log_to(self._folder, step, **{tag: value})
        if self._rows is not None:
            self._rows[tag] += 1
        if self._events is not None:
            self._events.add_scalar(tag, float(value), int(step))
        if self._on_scalar is not None:
            self._on_scalar(tag, float(value), step)

    def _next_step(self, tag: str) -> int:
        if self._rows is None:
            file = None if self._folder is None else self._folder / METRICS_FILE
            records = read_metrics(file) if file is not None and file.exists() else []
            self._rows = Counter(name for record in records for name in record)
        return self._rows[tag]

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: float | None = None) -> None:
        """Write several numbers, each as ``main_tag/its name``."""
        for name, value in tag_scalar_dict.items():
            self.add_scalar(f"{main_tag}/{name}", value, global_step)


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
