"""``kourou sweep results`` and ``plot``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.cli.terminal.output import console, print_json, tell
from kourou.cli.terminal.rows import plain_table
from kourou.experiments.results.plots import plot
from kourou.experiments.results.results import load_results
from kourou.experiments.results.settings import (
    MetricSummary,
    SettingSummary,
    last_rows,
    rank_settings,
    summarize_settings,
)


def show_results(
    folder: Path, *, output: Path | None, as_json: bool, each_run: bool, sort: str | None, lowest_first: bool
) -> None:
    """Print what each setting reached, or each run; or write everything that was logged to a file."""
    frame = load_results(folder)
    if output is not None:
        _write(frame, output)
    elif each_run:
        _print(last_rows(frame), as_json=as_json)
    else:
        settings = summarize_settings(frame)
        if sort is not None:
            settings = rank_settings(settings, sort, lowest_first=lowest_first)
        if as_json:
            print_json([asdict(setting) for setting in settings])
            return
        _print(setting_rows(settings), as_json=False)
        if sort is not None:
            best = settings[0]
            chosen = " ".join(f"{name}={value}" for name, value in best.params.items())
            tell(f"best by {sort}: {best.name}, {chosen + ', ' if chosen else ''}{_interval(best.metrics[sort])}")


def _write(frame: Any, output: Path) -> None:
    if output.suffix not in {".csv", ".json"}:
        raise errors.PlanError(f"--output ends in .csv or .json, got {output}")
    if output.suffix == ".csv":
        frame.to_csv(output, index=False)
    else:
        frame.to_json(output, orient="records", indent=2)
    tell(f"wrote {len(frame)} rows to {output}")


def setting_rows(settings: Sequence[SettingSummary]) -> list[dict[str, Any]]:
    """A column for each parameter in which settings differ; the name only where nothing else tells them apart."""
    params = dict.fromkeys(name for setting in settings for name in setting.params)
    varied = [name for name in params if len({repr(setting.params.get(name)) for setting in settings}) > 1]
    told = {tuple(repr(setting.params.get(name)) for name in varied) for setting in settings}
    metrics = dict.fromkeys(name for setting in settings for name in setting.metrics)
    return [
        {
            **({"setting": setting.name} if len(told) < len(settings) or not varied else {}),
            **{name: setting.params.get(name) for name in varied},
            "runs": setting.runs,
            **{name: _interval(setting.metrics.get(name)) for name in metrics},
        }
        for setting in settings
    ]


def _interval(metric: MetricSummary | None) -> str:
    if metric is None:
        return ""
    half = (metric.high - metric.low) / 2
    return f"{metric.mean:.4g}" + (f" ± {half:.2g}" if metric.runs > 1 else "")


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = plain_table()
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if name in {"run", "setting"} else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    console().print(table if rows else "no run has logged anything yet")


def draw_results(
    folder: Path, *, metrics: list[str] | None, by: list[str] | None, bandwidth: float, band: str, output: Path | None
) -> None:
    """Write the plots."""
    outputs = [output] if output is not None else [folder / "plot.png", folder / "plot.html"]
    for path in outputs:
        plot(folder, path, metrics=metrics, by=by, bandwidth=bandwidth or None, band=band)  # type: ignore[arg-type] # checked there
        tell(f"wrote {path}")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
