"""``kourou sweep results`` and ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kourou import errors
from kourou.cli.terminal.output import console, print_json, tell
from kourou.cli.terminal.rows import plain_table
from kourou.experiments.results.plots import plot
from kourou.experiments.results.results import load_results

__all__ = ["draw_results", "show_results"]

_NOT_METRICS = {"run", "name", "setting", "repeat", "seed", "step", "time"}


def show_results(folder: Path, *, output: Path | None, as_json: bool) -> None:
    """Print the last value of each metric of each run, or write everything to a file."""
    frame = load_results(folder)
    if output is not None:
        if output.suffix not in {".csv", ".json"}:
            raise errors.PlanError(f"--output ends in .csv or .json, got {output}")
        if output.suffix == ".csv":
            frame.to_csv(output, index=False)
        else:
            frame.to_json(output, orient="records", indent=2)
        tell(f"wrote {len(frame)} rows to {output}")
        return
    metrics = [name for name in frame.columns if name not in _NOT_METRICS and not name.startswith("params.")]
    last = frame.groupby("run", sort=False).last().reset_index() if len(frame) else frame
    rows = [
        {"run": row["run"], "step": _plain(row["step"]), **{name: _plain(row[name]) for name in metrics}}
        for _, row in last.iterrows()
    ]
    if as_json:
        print_json(rows)
        return
    table = plain_table()
    table.add_column("run", overflow="fold")
    for name in ("step", *metrics):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    console().print(table)


def draw_results(
    folder: Path, *, metrics: list[str] | None, by: list[str] | None, bandwidth: float, band: str, output: Path | None
) -> None:
    """Write the plots."""
    outputs = [output] if output is not None else [folder / "plot.png", folder / "plot.html"]
    for path in outputs:
        plot(folder, path, metrics=metrics, by=by, bandwidth=bandwidth or None, band=band)  # type: ignore[arg-type] # checked there
        tell(f"wrote {path}")


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # noqa: PLR0124 - pandas has NaN for what is missing


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
