"""The launcher of a run that was submitted: inside the allocation, without a shell, and perhaps not the first one."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import errors
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.launch.run_builder import RunBuilder
from kourou.runtime.launchers.engines.allocation import Allocation
from kourou.runtime.launchers.engines.batch_systems import await_limit, batch_system, put_back
from kourou.runtime.model.status import STATUS_FILE
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.held_signal import HeldSignal

if TYPE_CHECKING:
    from kourou.runtime.host_agent.authority import Authority

TERMINATED = 128 + signal.SIGTERM
"""Exit code: by whoever cancels the job; or preempts it, and has it begin again."""
NOT_REQUEUED = 75
"""Exit code (EX_TEMPFAIL): it is kept, to go on."""
_INTERRUPTED = 128  # codes from here on are of signals that ended it
_NEAR_LIMIT = "the job's time limit is near"


def bring_to_life(
    plan: LaunchPlan,
    folder: Path,
    *,
    near_limit: HeldSignal | None = None,
    allocation: Allocation | None = None,
    keys: tuple[str, Authority] | None = None,
) -> int:
    """Be the launcher of a run until that has ended; the exit code.

    Args:
        plan: of a run that was submitted.
        folder: the run's.
        near_limit: comes when the job's time limit is near: then the program is stopped, and the job put back into the
            queue. None: there is no such limit.
        allocation: of the plan, whose agents were started and wait; None: they are started now.
        keys: the token and the authority, where agents know them already.
    """
    assert plan.engine is not None  # noqa: S101 - it was submitted
    system = batch_system(plan.engine.launch_type)
    job = system.own_job()
    incarnation = _incarnations(folder) + 1
    again = RunFolder(folder.name, folder.parent, again=True, agents_wait=allocation is not None)
    builder = RunBuilder(plan, again, None, job=job, incarnation=incarnation, keys=keys, allocation=allocation)
    with contextlib.ExitStack() as undo:
        run = builder.build(None, undo)
    if near_limit is not None:
        near_limit.deliver_to(lambda: run.stop(_NEAR_LIMIT, wait=False))
        await_limit(system, near_limit, getattr(plan.engine, "told_s", 0))
    code = 0
    try:
        run.wait()
    except errors.ProgramFailed as failure:
        print(failure, file=sys.stderr)  # noqa: T201 - the job's output
        code = 1
    except errors.Interrupted as interrupted:
        code = interrupted.code
    if run.stop_reason == _NEAR_LIMIT and code < _INTERRUPTED:
        refusal = put_back(system, getattr(plan.engine, "requeues", 0), _not_ended(folder))
        if refusal is not None:
            return _tell_how_to_go_on(job, refusal, plan, folder)
    return code


def _incarnations(folder: Path) -> int:
    """How many launchers of this run there were before."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        before = RunInfo.from_dict(json.loads((folder / INFO_FILE).read_bytes()))
        return before.incarnation if before.pid else 0  # without one it tells of the submission
    return 0


@contextlib.contextmanager
def _not_ended(folder: Path) -> Iterator[None]:
    """While entered, the run is one that goes on."""
    status, aside = folder / STATUS_FILE, folder / f".{STATUS_FILE}"
    with contextlib.suppress(FileNotFoundError):
        status.rename(aside)
    try:
        yield
    except errors.LaunchError:
        with contextlib.suppress(FileNotFoundError):
            aside.rename(status)
        raise


def _tell_how_to_go_on(job: str, refusal: errors.LaunchError, plan: LaunchPlan, folder: Path) -> int:
    """The exit code of a job that is not put back."""
    from kourou.runtime.launch.batch.submission import plan_submission  # noqa: PLC0415 - others need none of it

    command = shlex.join(plan_submission(plan, folder).command)
    print(  # noqa: T201 - the job's output
        f"kourou: {_NEAR_LIMIT}, and job {job} cannot be put back into the queue: {refusal}\n"
        f"  The program and its checkpoints are kept in {folder}; this goes on with them:\n  {command}",
        file=sys.stderr,
    )
    return NOT_REQUEUED
