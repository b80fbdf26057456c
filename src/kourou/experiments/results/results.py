"""What all runs of a sweep measured, as one table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.describe.variants import VARIANT_FILE, load_variant, to_dotted
from kourou.experiments.failures import ResultsError
from kourou.experiments.results.event_files import EVENT_FILES, read_events
from kourou.experiments.results.progress import read_progress, step_of
from kourou.extras import load_extra
from kourou.ownership import replace_own
from kourou.runtime.metrics.exporters import EVENTS_FOLDER
from kourou.runtime.metrics.reading import read_metrics
from kourou.runtime.metrics.rows import METRICS_FILE

RUN_FILE = "run.json"
_LOGS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    METRICS_FILE: read_metrics,
    "progress.csv": read_progress,
    EVENT_FILES: read_events,
}
"""What runs log to, the first that a run has being read."""


def run_record(run: RunSpec) -> dict[str, Any]:
    """What sets a run apart, as JSON holds it: its name, setting, repeat, seed and parameters."""
    return {
        "name": run.name,
        "setting": run.setting,
        "repeat": run.repeat,
        "seed": run.seed,
        "params": {name: _plain(value) for name, value in run.params.items()},
    }


def declaration(run: RunSpec) -> dict[str, Any]:
    """What a sweep's journal is told of a run."""
    return {"run_id": run.run_id, "folder": str(Path(run.folder).absolute()), **run_record(run)}


def save_run(run: RunSpec) -> None:
    """Write ``run.json`` to the run's folder, which is made if need be."""
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(run_record(run), indent=2, ensure_ascii=False) + "\n"
    replace_own(folder / RUN_FILE, content.encode(), mode=0o644)


def find_runs(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders below this one in which a run logged something, in order of their names.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    top = Path(folder)
    if not top.is_dir():
        raise FileNotFoundError(f"there is no folder {top}")
    found = {file.parent for name in _LOGS for file in top.rglob(name)}
    own = {folder / EVENTS_FOLDER for folder in found if (folder / METRICS_FILE).exists()}  # the same numbers again
    return sorted(folder for folder in found if own.isdisjoint({folder, *folder.parents}))


def load_results(folder: str | os.PathLike[str]) -> Any:
    """A pandas DataFrame with one row for each line that any run below a folder has logged so far.

    Columns: ``run`` (its folder, relative), ``name``, ``setting``, ``repeat``, ``seed``, ``params.*``, ``step``,
    ``time`` (seconds since 1970), then the metrics; one that is called like a column before it becomes ``metric.*``.
    What a run does not have is missing. Where a program logs to a folder of its own below its run's, as Sample Factory
    and Stable-Baselines3 do, the run's ``run.json`` counts; without one, rlpyt's ``variant_config.json``, there or in
    the folder above.

    Raises:
        FileNotFoundError: there is no such folder.
        ResultsError: a file that cannot be read.
        MissingExtra: pandas, or where a run has nothing but event files tensorboard, is not installed.
    """
    pandas = load_extra("pandas")
    rows = [row for run_dir in find_runs(folder) for row in _rows(run_dir, Path(folder))]
    leading = ["run", "name", "setting", "repeat", "seed"]
    params = [name for row in rows for name in row if name.startswith("params.")]
    columns = dict.fromkeys([*leading, *params, "step", "time"])
    columns.update(dict.fromkeys(name for row in rows for name in row))
    return pandas.DataFrame(rows, columns=list(columns))


def _rows(run_dir: Path, top: Path) -> Iterator[dict[str, Any]]:
    identity = {"run": run_dir.relative_to(top).as_posix(), **_identity(run_dir, top)}
    read = next(reader for name, reader in _LOGS.items() if any(run_dir.glob(name)))
    records = read(run_dir)
    for number, record in enumerate(records):
        metrics = {f"metric.{name}" if name in identity else name: value for name, value in record.items()}
        yield {**identity, "step": step_of(record, number), **metrics}


def _identity(run_dir: Path, top: Path) -> dict[str, Any]:
    within = (place for place in (run_dir, *run_dir.parents) if place.is_relative_to(top))
    path = next((place / RUN_FILE for place in within if (place / RUN_FILE).exists()), None)
    if path is None:
        above = next((place for place in (run_dir, run_dir.parent) if (place / VARIANT_FILE).exists()), None)
        params = to_dotted(load_variant(above)) if above else {}
        return {f"params.{name}": value for name, value in params.items()}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        params = record.pop("params")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ResultsError(f"{path} does not say which run this is: {error!r}") from error
    known = {name: record.get(name) for name in ("name", "setting", "repeat", "seed")}
    return {**known, **{f"params.{name}": value for name, value in params.items()}}


def _plain(value: Any) -> Any:
    """A parameter as JSON holds it; what JSON has no word for becomes text."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return str(value)
