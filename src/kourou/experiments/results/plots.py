"""Learning curves: for each setting the mean of its runs with an interval, as PNG or as HTML that answers the mouse."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.failures import ResultsError
from kourou.experiments.results.curves import Band, BandKind, aligned, mean_band, smoothed
from kourou.experiments.results.results import load_results
from kourou.extras import load_extra

_NOT_METRICS = {"run", "name", "setting", "repeat", "seed", "step", "time", "node"}
_SHAPE = ("steps", "mean", "low", "high")
COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
_BANDS: dict[BandKind, str] = {
    "ci": "confidence interval of the mean",
    "pi": "prediction interval of a further run",
    "cb": "confidence band of the mean's curve",
}
_PAGE_FILE = Path(__file__).with_name("plot_page.html")
_PANEL_INCHES = (6.4, 4.0)
_MOST_COLUMNS = 2
_LEGEND_COLUMNS = 4
_LETTER_INCHES = 0.09
_LINES = {False: "-", True: (0, (4, 1.5))}
_MOST_SETTINGS = 2 * len(COLORS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one setting."""

    metric: str
    label: str
    """The setting's parameters, those that not all settings share."""
    band: Band
    color: str
    dashed: bool = False
    """Set where another setting has the same colour."""

    def to_dict(self) -> dict[str, Any]:
        """A copy for JSON, with numbers of six digits."""
        return {
            "metric": self.metric,
            "label": self.label or self.metric,
            "color": self.color,
            "dashed": self.dashed,
            "runs": self.band.runs,
            **{name: [float(f"{x:.6g}") for x in getattr(self.band, name)] for name in _SHAPE},
        }


def plot(
    source: Any,
    output: str | os.PathLike[str],
    *,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    band: BandKind = "ci",
    level: float = 0.95,
    bandwidth: float | None = None,
    title: str | None = None,
) -> Path:
    """Draw learning curves.

    Args:
        source: a sweep's folder, or what ``load_results`` returned.
        output: a file that ends in .png, .svg, .pdf or .html.
        metrics: which; None: all that are numbers.
        by: parameters whose values make one curve each; None: every setting is one.
        band: ``ci`` where the mean is, ``pi`` where a further run would be, ``cb`` the mean's curve as a whole.
        level: how sure the band is of it.
        bandwidth: of a Gaussian smoothing, in steps; None: none.
        title: above it all; None: the folder's name.

    Returns:
        The file.

    Raises:
        ResultsError: nothing was logged, or no such metric or parameter.
        MissingExtra: pandas, or matplotlib for other files than HTML, is not installed.
    """
    path = Path(output)
    heading = title if title is not None else Path(source).name if isinstance(source, (str, os.PathLike)) else ""
    curves = learning_curves(source, metrics=metrics, by=by, band=band, level=level, bandwidth=bandwidth)
    shaded = f"the {level:.0%} {_BANDS[band]}"
    if path.suffix == ".html":
        path.write_text(_page(curves, heading, shaded), encoding="utf-8")
    elif path.suffix in {".png", ".svg", ".pdf"}:
        _draw(curves, heading, shaded, path)
    else:
        raise ResultsError(f"a plot is a .png, .svg, .pdf or .html file, got {path}")
    return path


def learning_curves(
    source: Any,
    *,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    band: BandKind = "ci",
    level: float = 0.95,
    bandwidth: float | None = None,
) -> list[Curve]:
    """The curves that :func:`plot` draws, with the same arguments; metric by metric, setting by setting."""
    frame = load_results(source) if isinstance(source, (str, os.PathLike)) else source
    if not len(frame):
        raise ResultsError(f"nothing was logged in {source}" if not hasattr(source, "columns") else "no rows to plot")
    chosen = _metrics_of(frame, metrics)
    params = _params_of(frame, by)
    frame = frame.assign(_label=[_label(row, params) for _, row in frame.iterrows()] if params else "")
    labels = list(dict.fromkeys(frame["_label"]))
    if len(labels) > _MOST_SETTINGS:
        raise ResultsError(
            f"{len(labels)} settings are too many for one plot: choose parameters with by=, or plot a part of the frame"
        )
    curves = []
    for metric in chosen:
        for number, label in enumerate(labels):
            rows = frame[(frame["_label"] == label) & frame[metric].notna()]
            runs = [(run["step"].to_numpy(), run[metric].to_numpy()) for _, run in rows.groupby("run", sort=False)]
            if runs:
                steps, values = aligned(runs)
                values = smoothed(steps, values, bandwidth=bandwidth) if bandwidth else values
                found = mean_band(steps, values, band, level=level)
                again, color = divmod(number, len(COLORS))
                curves.append(
                    Curve(metric=metric, label=label, band=found, color=COLORS[color], dashed=again > 0),
                )
    return curves


def _metrics_of(frame: Any, wanted: Sequence[str] | None) -> list[str]:
    pandas = load_extra("pandas")
    there = [
        str(name)
        for name in frame.columns
        if name not in _NOT_METRICS
        and not str(name).startswith("params.")
        and pandas.api.types.is_numeric_dtype(frame[name])
    ]
    missing = [name for name in wanted or () if name not in there]
    if missing or not there:
        raise ResultsError(
            f"there is no metric {missing[0] if missing else ''!r}; there are {', '.join(there) or 'none'}"
        )
    return list(wanted or there)


def _params_of(frame: Any, by: Sequence[str] | None) -> list[str]:
    """Columns whose values tell settings apart: those that were asked for, else those that differ."""
    there = [str(name) for name in frame.columns if str(name).startswith("params.")]
    if by is None:
        return [name for name in there if frame[name].astype(str).nunique(dropna=False) > 1]
    wanted = [name if name.startswith("params.") else f"params.{name}" for name in by]
    missing = [name for name in wanted if name not in there]
    if missing:
        listed = ", ".join(name.removeprefix("params.") for name in there) or "none"
        raise ResultsError(f"there is no parameter {missing[0].removeprefix('params.')!r}; there are {listed}")
    return wanted


def _label(row: Any, params: Sequence[str]) -> str:
    return ", ".join(f"{name.removeprefix('params.')}={_short(row[name])}" for name in params)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _draw(curves: Sequence[Curve], heading: str, shaded: str, path: Path) -> None:
    figure_module, ticker = (load_extra(f"matplotlib.{name}") for name in ("figure", "ticker"))
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    columns = min(len(metrics), _MOST_COLUMNS)
    rows = -(-len(metrics) // columns)
    settings = {curve.label: curve for curve in curves}
    names = [f"{label or 'all runs'} (n={curve.band.runs})" for label, curve in settings.items()]
    width = _PANEL_INCHES[0] * columns
    abreast = max(1, min(_LEGEND_COLUMNS, len(names), int(width / (0.8 + _LETTER_INCHES * max(map(len, names))))))
    size = (width, _PANEL_INCHES[1] * rows + 1.1 + 0.25 * -(-len(names) // abreast))
    figure = figure_module.Figure(figsize=size, layout="constrained")  # no pyplot: nothing global, no display
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    lines = {}
    for panel, metric in zip(panels, metrics, strict=False):
        for curve in (curve for curve in curves if curve.metric == metric):
            steps, shape = curve.band.steps, curve.band
            style = {"color": curve.color, "linewidth": 1.8, "linestyle": _LINES[curve.dashed]}
            (lines[curve.label],) = panel.plot(steps, shape.mean, **style)
            if shape.runs > 1:
                panel.fill_between(steps, shape.low, shape.high, color=curve.color, alpha=0.15, linewidth=0)
        panel.set_title(metric, loc="left", fontsize="medium", fontweight="bold", parse_math=False)
        panel.set_xlabel("step")
        panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        panel.grid(visible=True, alpha=0.25)
        panel.margins(x=0.01)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(metrics) :]:
        panel.remove()
    told = f"mean of the runs of each setting; shaded: {shaded}"
    legend = figure.legend(lines.values(), names, title=told, loc="outside lower center", ncols=abreast, frameon=False)
    legend.get_title().set(fontsize="small", color="#5c6370")
    if heading:
        figure.suptitle(heading, fontweight="bold", x=0.01, ha="left")
    figure.savefig(path, dpi=130)


def _page(curves: Sequence[Curve], heading: str, band: str) -> str:
    # "</" would end the script's element early, in whatever name it stands.
    text = json.dumps([curve.to_dict() for curve in curves]).replace("</", "<\\/").replace("NaN", "null")
    filled = _PAGE_FILE.read_text(encoding="utf-8")
    for place, content in (
        ("@TITLE@", html.escape(heading or "learning curves")),
        ("@BAND@", html.escape(band)),
        ("@DATA@", text),
    ):
        filled = filled.replace(place, content)
    return filled
