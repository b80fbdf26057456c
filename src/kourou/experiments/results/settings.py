"""What settings reached: the last values of their runs, with the interval that their mean is in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kourou.experiments.failures import ResultsError
from kourou.experiments.results.curves import mean_band

_IDENTITY = frozenset({"run", "name", "setting", "repeat", "seed", "step", "time"})
_PARAM = "params."


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """A metric's last values in the runs of one setting."""

    mean: float
    """Their mean."""
    low: float
    """The lower end of Student's interval of 95 % for the mean; with one run the mean."""
    high: float
    """Its upper end."""
    runs: int
    """How many runs have the metric."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingSummary:
    """What the runs of one setting reached."""

    name: str
    """That of its runs, without their repeats."""
    params: Mapping[str, Any]
    """Its parameters."""
    runs: int
    """How many runs have logged anything."""
    metrics: Mapping[str, MetricSummary]
    """By name; a metric that no run has logged as a number is not there."""


def metric_names(frame: Any) -> list[str]:
    """The columns of a table from ``load_results`` that were measured."""
    return [name for name in frame.columns if name not in _IDENTITY and not name.startswith(_PARAM)]


def last_values(frame: Any) -> Any:
    """One row for each run: the last value of each column that it has one for."""
    return frame.groupby("run", sort=False).last().reset_index() if len(frame) else frame


def last_rows(frame: Any) -> list[dict[str, Any]]:
    """The same as JSON holds it: ``run``, ``step`` and each metric, None where there is none."""
    names = ["run", "step", *metric_names(frame)]
    return [{name: _plain(row[name]) for name in names} for _, row in last_values(frame).iterrows()]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # noqa: PLR0124 - pandas has NaN for what is missing


def summarize_settings(frame: Any) -> list[SettingSummary]:
    """One summary for each setting, in the order in which they come."""
    last = last_values(frame)
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in last.to_dict("records"):
        params = _params(row)
        known = row.get("setting")
        groups.setdefault(known if isinstance(known, str) else repr(params), []).append(row)
    metrics = metric_names(frame)
    return [_summary(rows, metrics) for rows in groups.values()]


def rank_settings(
    settings: Sequence[SettingSummary], metric: str, *, lowest_first: bool = False
) -> list[SettingSummary]:
    """The settings by the mean of a metric, the best first; those without it last.

    Raises:
        ResultsError: no setting has the metric; those that there are are named.
    """
    known = {name for setting in settings for name in setting.metrics}
    if metric not in known:
        raise ResultsError(f"no run has logged {metric!r} as a number; there are {', '.join(sorted(known)) or 'none'}")
    sign = 1 if lowest_first else -1
    with_it = [setting for setting in settings if metric in setting.metrics]
    rest = [setting for setting in settings if metric not in setting.metrics]
    return sorted(with_it, key=lambda setting: sign * setting.metrics[metric].mean) + rest


def _summary(rows: list[dict[str, Any]], metrics: list[str]) -> SettingSummary:
    name = str(rows[0].get("name") or rows[0]["run"])
    summaries = {metric: summary for metric in metrics if (summary := _metric([row[metric] for row in rows]))}
    return SettingSummary(
        name=re.sub(r"_rep\d+$", "", name), params=_params(rows[0]), runs=len(rows), metrics=summaries
    )


def _metric(values: list[Any]) -> MetricSummary | None:
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and value == value]  # noqa: PLR0124 - NaN
    if not numbers:
        return None
    band = mean_band([0.0], [[number] for number in numbers])
    return MetricSummary(mean=float(band.mean[0]), low=float(band.low[0]), high=float(band.high[0]), runs=len(numbers))


def _params(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own parameters: one that only others have is missing there, which pandas writes as NaN."""
    params = {name.removeprefix(_PARAM): value for name, value in row.items() if name.startswith(_PARAM)}
    return {name: value for name, value in params.items() if not (isinstance(value, float) and value != value)}  # noqa: PLR0124 - NaN
