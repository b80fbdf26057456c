"""Runs that have begun stay where they are.

The names of runs, and so their folders, count them in the order of their description. Where a grid grows in its middle,
the same run would be called otherwise: its results would be looked for where they are not, or where another run's are.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from kourou.experiments.describe.runs import RunSpec, check_runs
from kourou.experiments.failures import DescriptionError
from kourou.experiments.journal.looking import known_records
from kourou.experiments.journal.run_records import RunRecord


def check_begun(runs: Iterable[RunSpec], folder: str | os.PathLike[str]) -> tuple[RunSpec, ...]:
    """The runs of a sweep, those that have begun under the name and in the folder that they had then.

    Args:
        runs: as they are described now.
        folder: the sweep's, whose journal knows what has begun.

    Raises:
        DescriptionError: two runs are the same, or share a folder; or a new one would get that of one that has begun.
    """
    known = known_records(Path(folder).absolute())
    begun = {run_id: record for run_id, record in known.items() if record.attempt}
    checked = [_as_it_began(run, begun[run.run_id]) if run.run_id in begun else run for run in check_runs(runs)]
    taken = {run.folder: run for run in checked if run.run_id in begun}
    for run in checked:
        if (other := taken.get(run.folder, run)) is not run:
            raise DescriptionError(
                f"run {run.name!r} with {dict(run.params)} would get the folder {run.folder}, in which the run with "
                f"{dict(other.params)} has begun: describe what is new behind what was there, or under another name"
            )
    return check_runs(checked)


def _as_it_began(run: RunSpec, record: RunRecord) -> RunSpec:
    moved = Path(run.folder).with_name(Path(record.folder).name)  # with the sweep, if that was
    there = not moved.exists() and Path(record.folder).exists()
    told = f"={run.name}"  # commands may be told their run's name
    command = None if run.command is None else tuple(_renamed(word, told, record.name) for word in run.command)
    return dataclasses.replace(run, name=record.name, folder=record.folder if there else str(moved), command=command)


def _renamed(word: str, told: str, name: str) -> str:
    return f"{word.removesuffix(told)}={name}" if word.endswith(told) else word
