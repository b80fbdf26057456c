"""lp.submit: a plan is handed to an engine, and its launcher runs inside the allocation; the shell may go away."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kourou import errors
from kourou.runtime.context import context
from kourou.runtime.files.run_folder import PLAN_FILE, RunFolder, new_run_id
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess
from kourou.runtime.launch.batch.stored_plan import StoredPlan
from kourou.runtime.launch.batch.submission import detached, plan_submission
from kourou.runtime.launch.launching import the_program
from kourou.runtime.launchers.engines.base import BatchSystem
from kourou.runtime.launchers.engines.batch_systems import batch_system
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.plan.compile import compile_program
from kourou.runtime.plan.placement import PlacementOf
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.timeline import StopTimeline

_SUBMITTED = "submitted.json"  # run.json as it is until the launcher writes its own


def submit(
    program: Program,
    engine: EngineOptions,
    *,
    local_resources: Mapping[str, PythonProcess] | None = None,
    placement: PlacementOf | None = None,
    setup: Callable[[], object] | None = None,
    stop_timeline: StopTimeline | None = None,
    run_dir: str | os.PathLike[str] | None = None,
) -> str:
    """Hand a program to an engine as a batch job, and return at once; ``kourou status`` and its like find the run.

    Args:
        program: the graph.
        engine: where it runs, such as ``lp.Slurm(...)``.
        local_resources: label → what its processes get.
        placement: as :func:`kourou.launch` has it.
        setup: likewise.
        stop_timeline: likewise.
        run_dir: where the run's folder is made, which all hosts have to see; None: KOUROU_RUNS_DIR, else below the
            user's state directory.

    Returns:
        The run's id.

    Raises:
        PlanError: the program has mistakes, or the engine takes no batch jobs; nothing was submitted.
        LaunchError: the run's folder cannot be made, or the engine refuses.
    """
    context.check_launch()
    program = the_program(program)
    system = batch_system(engine.launch_type)
    plan = compile_program(
        program,
        engine,
        local_resources=program.resources(local_resources),
        placement=placement,
        setup=setup,
        stop=stop_timeline,
    )
    folder = RunFolder(new_run_id(program.name), run_dir)
    folder.close()  # from now on it is the launcher's, who may be quick
    try:
        plan = detached(plan)
        with folder.written():
            StoredPlan.write(plan, folder.path)
        folder.write_json(PLAN_FILE, plan.to_dict())
        job = system.submit(plan_submission(plan, folder.path))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    try:
        folder.write_json(_SUBMITTED, _submitted(plan, folder.run_id, job).to_dict())
        with folder.written(), contextlib.suppress(FileExistsError):
            (folder.path / INFO_FILE).hardlink_to(folder.path / _SUBMITTED)
    except BaseException as error:  # Ctrl-C, too
        withdrawn = _withdrawn(system, job, folder.path, error)
        if isinstance(error, Exception):
            raise withdrawn from error
        raise
    return folder.run_id


def _withdrawn(system: BatchSystem, job: str, folder: Path, why: BaseException) -> errors.LaunchError:
    """A job that other shells would not find is cancelled."""
    try:
        system.cancel(job)
    except errors.LaunchError as error:
        return errors.LaunchError(
            f"job {job} was submitted, its run is {folder}, but {why}; nor was it cancelled: {error}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    return errors.LaunchError(f"job {job} was submitted, and cancelled again: {why}")


def _submitted(plan: LaunchPlan, run_id: str, job: str) -> RunInfo:
    """What is known of the run before its launcher says more."""
    return RunInfo.of_this_process(
        run_id=run_id,
        program=plan.program,
        launch_type=str(plan.launch_type),
        terminal=plan.terminal,
        nodes=len(plan.nodes),
        pid=0,
        coordinator="",
        stop_s=plan.stop.total_s,
        started_at=time.time(),
        engine=str(plan.launch_type),
        job=job,
    )
