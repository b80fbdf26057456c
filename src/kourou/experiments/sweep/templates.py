"""Handing runs to any program that takes a command line, such as NVIDIA's ``ngc batch run``.

A template is that program's command line, with ``{{ name }}`` and ``{{ experiment_cmd }}`` in it. It is read as a shell
reads it, quotes and continued lines included, before anything is put in; so whatever a value holds stays one argument,
and no shell is involved here. The run's command is quoted for the shell that will execute it there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from kourou import errors
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.journal.journal import Journal, declare, locked_journal
from kourou.experiments.journal.run_records import RunRecord
from kourou.experiments.results.results import declaration
from kourou.experiments.sweep.begun import check_begun
from kourou.experiments.sweep.dry_run import unfinished_runs
from kourou.experiments.sweep.launch import (
    Rerun,
    SweepOutcome,
    check_rerun,
    new_launch_id,
    open_sweep,
    select_runs,
)

_TIMEOUT_S = 300.0
_CONTINUED = re.compile(r"\\\r?\n")  # which shlex, unlike a shell, does not join
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def fill_template(template: str, run: RunSpec) -> list[str]:
    """The arguments that hand one run over.

    Raises:
        PlanError: the template is no command line, has no place for the command, or one that nothing is known for;
            or the run is no command.
    """
    if run.command is None:
        raise errors.PlanError(f"run {run.name} is no command, and a template hands over nothing else")
    environment = [f"{name}={value}" for name, value in run.env.items()]
    values = {
        "name": run.name,
        "experiment_cmd": shlex.join([*(["env", *environment] if environment else []), *run.command]),
    }
    unknown = sorted(set(_PLACE.findall(template)) - set(values))
    if unknown or "experiment_cmd" not in _PLACE.findall(template):
        raise errors.PlanError(
            "a template has the place {{ experiment_cmd }}, and may have {{ name }}; "
            + (f"there is {{{{ {unknown[0]} }}}}" if unknown else "it has no {{ experiment_cmd }}")
        )
    # Spaces within a place would divide it.
    compact = _PLACE.sub(lambda found: f"{{{{{found[1]}}}}}", _CONTINUED.sub("", template))
    try:
        argv = shlex.split(compact)
    except ValueError as error:
        raise errors.PlanError(f"the template is no command line: {error}") from error
    return [_PLACE.sub(lambda found: values[found[1]], word) for word in argv]


def plan_template_sweep(
    runs: Sequence[RunSpec], folder: str | os.PathLike[str], template: str, *, rerun: Rerun = "lost"
) -> list[tuple[RunSpec, list[str]]]:
    """What :func:`run_template_sweep` would call, run by run; nothing is written."""
    specs = check_begun(runs, folder)
    argv = {run.run_id: fill_template(template, run) for run in specs}
    return [(run, argv[run.run_id]) for run, _ in unfinished_runs(specs, folder, rerun)]


def run_template_sweep(
    runs: Sequence[RunSpec],
    folder: str | os.PathLike[str],
    template: str,
    *,
    rerun: Rerun = "lost",
    pause_s: float = 0.0,
    on_change: Callable[[RunRecord], None] | None = None,
    source: dict[str, Any] | None = None,
) -> SweepOutcome:
    """Hand each run over, once, one after the other. What became of it there, only that system knows.

    A run that was handed over is QUEUED; one that was refused FAILED, with what the program said.

    Raises:
        PlanError: the template has a mistake; nothing was handed over.
        SweepBusy: another process runs this sweep.
    """
    check_rerun(rerun)
    specs = check_begun(runs, folder)
    argv = {run.run_id: fill_template(template, run) for run in specs}
    top = open_sweep(folder)
    notify = on_change or (lambda _: None)
    with locked_journal(top) as journal:
        journal.launch(new_launch_id(top), backend="template")
        declare(journal, (declaration(run) for run in specs))
        for run in select_runs(journal, top, specs, rerun, source):
            notify(_submit(journal, run, argv[run.run_id]))
            journal.commit()
            time.sleep(pause_s)
        return SweepOutcome.of(journal, top, specs, "detached")


def _submit(journal: Journal, run: RunSpec, argv: list[str]) -> RunRecord:
    record = journal.append("submitted", run.run_id, attempt=journal.records[run.run_id].attempt + 1)
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return journal.append("ended", run.run_id, state="FAILED", cause=f"{argv[0]} could not be called: {error}")
    if done.returncode:
        said = tuple((done.stdout + done.stderr).splitlines()[-50:])
        cause = f"{argv[0]} exited with {done.returncode}"
        return journal.append("ended", run.run_id, state="FAILED", code=done.returncode, cause=cause, last_lines=said)
    return record
