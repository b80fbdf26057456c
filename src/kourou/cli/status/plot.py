"""``kourou plot``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from kourou import errors
from kourou.cli.terminal.chart import LINE_STYLES, chart
from kourou.cli.terminal.output import console, print_json, print_text, tell
from kourou.cli.terminal.rows import clean
from kourou.runtime.metrics.reading import Curve, curves_of, read_metrics
from kourou.runtime.model.names import label_of
from kourou.runtime.monitoring.found_run import FoundRun

_PICTURE = "metrics.png"
_HEIGHT = 8
_WIDEST = 110
_MOST_NODES = len(LINE_STYLES)


def plot_run(found: FoundRun, wanted: Sequence[str], *, output: Path | None, as_json: bool) -> None:
    """Show what a run measured: as a picture, and on a terminal as characters.

    Raises:
        NotFound: nothing was logged, or nothing of that name.
        MissingExtra: there is no terminal, and matplotlib or pandas is not installed.
    """
    curves = _chosen(found, wanted)
    if as_json:
        print_json([curve._asdict() for curve in curves], indent=None)
        return
    out = console()
    if out.is_terminal:
        for metric in dict.fromkeys(curve.metric for curve in curves):
            of_metric = [curve for curve in curves if curve.metric == metric]
            out.print(_heading(metric, of_metric), no_wrap=True, overflow="ellipsis")
            lines = [(curve.steps, curve.values) for curve in of_metric[:_MOST_NODES]]
            out.print(chart(lines, width=min(out.width, _WIDEST), height=_HEIGHT))
    try:
        print_text(str(_draw(found, curves, output or found.path / _PICTURE)))
    except errors.MissingExtra as error:
        if output is not None or not out.is_terminal:
            raise
        tell(f"there is no picture: {error}")


def _chosen(found: FoundRun, wanted: Sequence[str]) -> list[Curve]:
    folder = found.info.metrics_dir or str(found.path)
    try:
        curves = curves_of(read_metrics(folder))
    except FileNotFoundError:
        curves = []
    if not curves:
        raise errors.NotFound(
            f"run {found.run_id} has logged no numbers (yet): its nodes do so with lp.log(step, loss=…)"
        )
    chosen = [c for c in curves if not wanted or any(fnmatch.fnmatchcase(c.metric, pattern) for pattern in wanted)]
    if not chosen:
        names = ", ".join(dict.fromkeys(clean(curve.metric) for curve in curves))
        raise errors.NotFound(f"run {found.run_id} has no metric {' or '.join(wanted)!r}; it has {names}")
    return chosen


def _heading(metric: str, curves: Sequence[Curve]) -> Text:
    text = Text(clean(metric), style="bold")
    for style, curve in zip(LINE_STYLES, curves, strict=False):
        text.append(f"  {clean(curve.node)} {curve.values[-1]:.4g}".rstrip(), style=style)
    if len(curves) > _MOST_NODES:
        text.append(f"  and {len(curves) - _MOST_NODES} more", style="bright_black")
    return text


def _draw(found: FoundRun, curves: Sequence[Curve], output: Path) -> Path:
    """The picture has one curve for each label, the mean of its nodes; where they share no steps, one for each node."""
    from kourou.experiments.results.plots import plot  # noqa: PLC0415 - likewise
    from kourou.extras import load_extra  # noqa: PLC0415 - a terminal needs none of it

    rows = [
        {
            "run": curve.node,
            "params.node": label_of(curve.node) or curve.node,
            "step": step,
            _column(curve.metric): value,
        }
        for curve in curves
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    frame = load_extra("pandas").DataFrame(rows)
    metrics = list(dict.fromkeys(_column(curve.metric) for curve in curves))
    try:
        return plot(frame, output, metrics=metrics, title=found.run_id)
    except errors.ResultsError:
        frame["params.node"] = frame["run"]
        return plot(frame, output, metrics=metrics, title=found.run_id)


def _column(metric: str) -> str:
    """The table's name for a metric, which differs from those of its other columns."""
    return f"metric.{metric}" if metric in _TAKEN or metric.startswith("params.") else metric


_TAKEN = {"run", "name", "setting", "repeat", "seed", "step", "time"}
