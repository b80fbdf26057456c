"""What is handed to an engine for a batch job."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kourou.runtime.interpreter.startup import python_command
from kourou.runtime.launchers.engines.base import Submission
from kourou.runtime.launchers.engines.batch_systems import batch_system
from kourou.runtime.plan.plan import LaunchPlan
from kourou.script import names


def plan_submission(plan: LaunchPlan, folder: Path) -> Submission:
    """What is handed to the engine, to the letter.

    Raises:
        PlanError: the engine takes no batch jobs, or what has to travel to it cannot.
    """
    assert plan.engine is not None  # noqa: S101 - it was compiled for one
    command = python_command(f"from kourou.runtime.launch.batch.job import main; main({str(folder)!r})")
    return batch_system(plan.engine.launch_type).plan(detached(plan), folder=folder, command=command)


def detached(plan: LaunchPlan) -> LaunchPlan:
    """It as another process takes it, which has neither this one's script nor a terminal."""
    return dataclasses.replace(plan, terminal="output_to_files", scope=names.ANYTHING)
