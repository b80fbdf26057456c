"""A sweep, as JSON: its runs, what each setting reached, and the settings' curves with intervals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.journal.sweep_folder import read_sweep
from kourou.experiments.results.plots import learning_curves
from kourou.experiments.results.results import load_results
from kourou.experiments.results.settings import last_rows, metric_names, summarize_settings


def sweep_page(folder: Path) -> dict[str, Any]:
    """How far a sweep has come, and its runs.

    Raises:
        NotFound: there is no sweep in that folder.
    """
    data = read_sweep(folder).to_dict()
    params = dict.fromkeys(name for run in data["runs"] for name in run["params"])
    varied = [name for name in params if len({repr(run["params"].get(name)) for run in data["runs"]}) > 1]
    return {**data, "name": folder.name, "varied": varied}


def results_page(folder: Path) -> dict[str, Any]:
    """What the runs of a sweep measured: the last values of each run and of each setting, and the settings' curves.

    Without results, and where they cannot be read, ``why`` says so.
    """
    page: dict[str, Any] = {"metrics": [], "runs": [], "settings": [], "curves": [], "why": ""}
    try:
        frame = load_results(folder)
        page["metrics"] = metric_names(frame)
        page["runs"] = last_rows(frame)
        page["settings"] = [dataclasses.asdict(setting) for setting in summarize_settings(frame)]
        page["curves"] = [curve.to_dict() for curve in learning_curves(frame)]
    except (errors.KourouError, OSError) as error:
        page["why"] = str(error)
    return page
