"""Batch: a plan is handed to an engine, and its launcher runs inside the allocation; the shell may go away."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import errors
from kourou.ownership import read_own, write_own
from kourou.runtime.context import context
from kourou.runtime.files.run_folder import PICKLED_PLAN_FILE, PLAN_FILE, RunFolder, new_run_id
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess
from kourou.runtime.interpreter.startup import python_command
from kourou.runtime.launch.launch import the_program
from kourou.runtime.launch.run_builder import RunBuilder
from kourou.runtime.launchers.engines.base import BatchSystem, Submission
from kourou.runtime.launchers.engines.batch_systems import batch_system
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.status import STATUS_FILE
from kourou.runtime.plan.compile import compile_program
from kourou.runtime.plan.placement import PlacementOf
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.held_signal import HeldSignal
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.script import names

if TYPE_CHECKING:
    from kourou.runtime.host_agent.authority import Authority

__all__ = ["bring_to_life", "plan_submission", "run_submitted", "submit"]

_TERMINATED = 128 + signal.SIGTERM  # by whoever cancels the job; or preempts it, and has it begin again
_NOT_REQUEUED = 75  # EX_TEMPFAIL: it is kept, to go on
_INTERRUPTED = 128  # codes from here on are of signals that ended it
_NEAR_LIMIT = "the job's time limit is near"
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
        plan = _detached(plan)
        with folder.written():
            write_own(folder.path / PICKLED_PLAN_FILE, pickle.dumps(plan))
        folder.write_json(PLAN_FILE, plan.to_dict())
        job = system.submit(plan_submission(plan, folder.path))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    try:
        folder.write_json(_SUBMITTED, _submitted(plan, folder.run_id, job).to_dict())
        with folder.written(), contextlib.suppress(FileExistsError):
            (folder.path / INFO_FILE).hardlink_to(folder.path / _SUBMITTED)
    except errors.LaunchError as error:
        raise _withdrawn(system, job, folder.path, error) from error
    return folder.run_id


def _withdrawn(system: BatchSystem, job: str, folder: Path, why: errors.LaunchError) -> errors.LaunchError:
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


def plan_submission(plan: LaunchPlan, folder: Path) -> Submission:
    """What is handed to the engine, to the letter.

    Raises:
        PlanError: the engine takes no batch jobs, or what has to travel to it cannot.
    """
    assert plan.engine is not None  # noqa: S101 - it was compiled for one
    command = python_command(f"from kourou.runtime.launch.batch_job import main; main({str(folder)!r})")
    return batch_system(plan.engine.launch_type).plan(_detached(plan), folder=folder, command=command)


def _detached(plan: LaunchPlan) -> LaunchPlan:
    """It as another process takes it, which has neither this one's script nor a terminal."""
    return dataclasses.replace(plan, terminal="output_to_files", scope=names.ANYTHING)


def run_submitted(path: str, near_limit: HeldSignal) -> None:
    """Be the launcher of the run in a folder, and end with its code."""
    folder = Path(path)
    plan: LaunchPlan = pickle.loads(read_own(folder / PICKLED_PLAN_FILE))
    code = bring_to_life(plan, folder, near_limit=near_limit)
    if code not in {_TERMINATED, _NOT_REQUEUED}:
        (folder / PICKLED_PLAN_FILE).unlink(missing_ok=True)
    sys.exit(code)


def bring_to_life(
    plan: LaunchPlan,
    folder: Path,
    *,
    near_limit: HeldSignal | None = None,
    keys: tuple[str, Authority] | None = None,
) -> int:
    """Be the launcher of a run until that has ended; the exit code.

    Args:
        plan: of a run that was submitted.
        folder: the run's.
        near_limit: comes when the job's time limit is near: then the program is stopped, and the job put back into the
            queue. None: there is no such limit.
        keys: the token and the authority, where agents know them already.
    """
    assert plan.engine is not None  # noqa: S101 - it was submitted
    system = batch_system(plan.engine.launch_type)
    job, restarts = system.own_job(), system.own_restarts()
    incarnation = _incarnations(folder) + 1
    again = RunFolder(folder.name, folder.parent, again=True)
    run = RunBuilder(plan, again, None, job=job, incarnation=incarnation, keys=keys).build()
    if near_limit is not None:
        near_limit.deliver_to(lambda: run.stop(_NEAR_LIMIT, wait=False))
    code = 0
    try:
        run.wait()
    except errors.ProgramFailed as failure:
        print(failure, file=sys.stderr)  # noqa: T201 - the job's output
        code = 1
    except errors.Interrupted as interrupted:
        code = interrupted.code
    most = getattr(plan.engine, "requeues", 0)
    if run.stop_reason == _NEAR_LIMIT and code < _INTERRUPTED and restarts < most:
        print(f"kourou: requeue {restarts + 1} of {most}", file=sys.stderr)  # noqa: T201 - likewise
        return _requeue(system, job, plan, folder)
    return code


def _incarnations(folder: Path) -> int:
    """How many launchers of this run there were before."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        before = RunInfo.from_dict(json.loads((folder / INFO_FILE).read_bytes()))
        return before.incarnation if before.pid else 0  # without one it tells of the submission
    return 0


def _requeue(system: BatchSystem, job: str, plan: LaunchPlan, folder: Path) -> int:
    """Put this job back into the queue, and wait for the end that it has then; an exit code, where that is refused."""
    status, aside = folder / STATUS_FILE, folder / f".{STATUS_FILE}"
    with contextlib.suppress(FileNotFoundError):
        status.rename(aside)  # the run has not ended
    try:
        system.requeue(job)
    except errors.LaunchError as error:
        with contextlib.suppress(FileNotFoundError):
            aside.rename(status)
        command = shlex.join(plan_submission(plan, folder).command)
        print(  # noqa: T201 - the job's output
            f"kourou: {_NEAR_LIMIT}, and job {job} cannot be put back into the queue: {error}\n"
            f"  The program and its checkpoints are kept in {folder}; this goes on with them:\n  {command}",
            file=sys.stderr,
        )
        return _NOT_REQUEUED
    while True:
        signal.pause()
