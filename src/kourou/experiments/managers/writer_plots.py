"""Learning curves of managers: of each agent all fits, or their mean with a band."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from kourou.experiments.failures import ResultsError, check_word
from kourou.experiments.managers.writer_data import Source, read_writer_data
from kourou.experiments.results.curves import aligned, mean_band, smoothed
from kourou.experiments.results.plots import COLORS
from kourou.extras import load_extra

ErrorRepresentation: TypeAlias = Literal["raw_curves", "ci", "pi", "cb"]
"""All fits as thin lines; or a band: where the mean is, where a further fit would be, the mean's curve as a whole."""

_POINTS = 1000
_SMOOTH_POINTS = 200
_LEGEND_COLUMNS = 3
_DASHES = ("-", (0, (1, 1)), (0, (5, 5)), (0, (1, 5, 3, 5)))
_SIZE = (7.2, 4.5)


def plot_writer_data(  # noqa: PLR0913 - rlberry's
    source: Source,
    tag: str,
    *,
    xtag: str | None = None,
    smooth: bool = False,
    smoothing_bandwidth: float | None = None,
    id_agent: int | None = None,
    ax: Any = None,
    error_representation: ErrorRepresentation = "ci",
    n_boot: int = 1000,
    level: float = 0.9,
    show: bool = False,
    preprocess_func: Callable[[Any], Any] | None = None,
    title: str | None = None,
    savefig_fname: str | os.PathLike[str] | None = None,
    linestyles: bool = False,
) -> Any:
    """Draw what agents wrote under a tag, one colour for each agent.

    Args:
        source: managers, or their folders; they may be training still.
        tag: what to draw.
        xtag: over what: ``dw_time_elapsed``, or another tag that was written at the same steps; None: the step.
        smooth: whether to smooth, by Nadaraya and Watson's estimator with Gaussian weights.
        smoothing_bandwidth: the weights' standard deviation, in units of x; None: a twentieth of its range.
        id_agent: a fit; None: all.
        ax: matplotlib axes to draw into; None: new ones, without any display.
        error_representation: how fits that differ are shown.
        n_boot: bootstrap draws of ``cb``.
        level: how sure the band is.
        show: whether to open a window.
        preprocess_func: changes each fit's values first.
        title: above it; None: the tag.
        savefig_fname: a file to write.
        linestyles: whether agents differ by the dashes of their lines as well.

    Returns:
        What was drawn, as a DataFrame: ``name``, ``x``, ``mean``, ``low``, ``high``, ``n_simu`` (how many fits), or for
        raw curves ``name``, ``x``, ``value``, ``n_simu`` (which fit).

    Raises:
        ResultsError: nothing was written under that tag.
    """
    check_word("error_representation is", error_representation, get_args(ErrorRepresentation), ResultsError)
    data = read_writer_data(source, preprocess_tag=tag, preprocess_func=preprocess_func, id_agent=id_agent)
    if tag not in set(data["tag"]):
        raise ResultsError(f"nothing was written under {tag!r}; there are {', '.join(sorted(set(data['tag'])))}")
    parts = []
    axes = ax if ax is not None else _new_axes(show=show)
    for number, (name, curves) in enumerate(_curves(data, tag, xtag).items()):
        x, values = aligned([curve for _, curve in curves], points=_POINTS)
        if smooth:
            x, values = _smooth(x, values, smoothing_bandwidth)
        fits = [fit for fit, _ in curves]
        draw = _draw_raw if error_representation == "raw_curves" else _draw_band
        dashes = _DASHES[number % len(_DASHES) if linestyles else 0]
        options = {"kind": error_representation, "level": level, "n_boot": n_boot, "dashes": dashes}
        parts.append(draw(axes, name, (x, values, fits), COLORS[number % len(COLORS)], options))
    axes.set(xlabel=xtag or "step", ylabel=tag)
    _finish(axes, title if title is not None else tag, len(parts))
    if savefig_fname is not None:
        axes.figure.savefig(savefig_fname, dpi=130)
    if show:
        load_extra("matplotlib.pyplot").show()
    return load_extra("pandas").concat(parts, ignore_index=True)


def _curves(data: Any, tag: str, xtag: str | None) -> dict[str, list[tuple[int, tuple[Any, Any]]]]:
    """For each agent its fits, each with x and values."""
    found: dict[str, list[tuple[int, tuple[Any, Any]]]] = {}
    for (name, fit), rows in data.groupby(["name", "n_simu"], sort=False):
        values = rows[rows["tag"] == tag]
        if not len(values):
            continue
        if xtag in {None, "global_step", "dw_time_elapsed"}:
            x = values[xtag or "global_step"]
        else:
            at = rows[rows["tag"] == xtag].drop_duplicates("global_step", keep="last").set_index("global_step")["value"]
            x = values["global_step"].map(at)
            if not x.notna().any():
                raise ResultsError(f"{xtag!r} was not written at the steps of {tag!r}")
        found.setdefault(name, []).append((fit, (x.to_numpy(dtype=float), values["value"].to_numpy(dtype=float))))
    return found


def _smooth(x: Any, values: Any, bandwidth: float | None) -> tuple[Any, Any]:
    """Curves that look smooth, too: read at more places than they were measured at, where these are few."""
    np = load_extra("numpy")
    width = bandwidth or max(float(x[-1] - x[0]) / 20, 1e-12)
    at = x if len(x) >= _SMOOTH_POINTS else np.linspace(x[0], x[-1], _SMOOTH_POINTS)
    return at, smoothed(x, values, bandwidth=width, at=at)


def _finish(axes: Any, title: str, agents: int) -> None:
    """Title and legend above the curves, where they cover none."""
    columns = min(agents, _LEGEND_COLUMNS)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0, "frameon": False}
    legend = axes.legend(ncols=columns, handlelength=1.4, columnspacing=1.6, **place)
    for line in legend.get_lines():
        line.set(linewidth=2.5, alpha=1)
    axes.set_title(title, loc="left", fontweight="bold", pad=8 + 17 * -(-agents // columns))


def _draw_raw(axes: Any, name: str, curves: tuple[Any, Any, list[int]], color: str, options: dict[str, Any]) -> Any:
    pandas = load_extra("pandas")
    x, values, fits = curves
    look = {"color": color, "alpha": 0.6, "linewidth": 1, "linestyle": options["dashes"]}
    for number, row in enumerate(values):
        axes.plot(x, row, label=f"{name} (n={len(fits)})" if not number else None, **look)
    frames = [
        pandas.DataFrame({"name": name, "x": x, "value": row, "n_simu": fit})
        for fit, row in zip(fits, values, strict=True)
    ]
    return pandas.concat(frames, ignore_index=True)


def _draw_band(axes: Any, name: str, curves: tuple[Any, Any, list[int]], color: str, options: dict[str, Any]) -> Any:
    x, values, fits = curves
    band = mean_band(x, values, options["kind"], level=options["level"], resamples=options["n_boot"])
    axes.plot(x, band.mean, color=color, linewidth=1.8, linestyle=options["dashes"], label=f"{name} (n={band.runs})")
    if band.runs > 1:
        axes.fill_between(x, band.low, band.high, color=color, alpha=0.18, linewidth=0)
    columns = {"name": name, "x": x, "mean": band.mean, "low": band.low, "high": band.high, "n_simu": len(fits)}
    return load_extra("pandas").DataFrame(columns)


def _new_axes(*, show: bool) -> Any:
    if show:
        return load_extra("matplotlib.pyplot").subplots(figsize=_SIZE, layout="constrained")[1]
    return load_extra("matplotlib.figure").Figure(figsize=_SIZE, layout="constrained").subplots()
