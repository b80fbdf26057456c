"""The jobs of what was submitted: what their engines tell of them, and how one is put back into the queue."""

from __future__ import annotations

import pkgutil
import signal
import sys
import time
from contextlib import AbstractContextManager
from typing import cast

from kourou import errors
from kourou.runtime.launchers.engines.base import BatchSystem, JobState
from kourou.runtime.model.engines import known_engines
from kourou.runtime.stopping.held_signal import HeldSignal

_FRESH_S = 2.0  # an engine is not asked again within
_EARLY_S = 60.0  # an engine may tell of a limit so much earlier than it was asked to
_seen: dict[str, tuple[float, int, JobState]] = {}


def batch_system(engine: str) -> BatchSystem:
    """What an engine does with batch jobs.

    Raises:
        PlanError: it takes none.
    """
    kind = known_engines().get(engine)
    if kind is None or not kind.batch:
        known = ", ".join(sorted(name for name, each in known_engines().items() if each.batch))
        raise errors.PlanError(f"{engine!r} takes no batch jobs; those that do are {known}")
    return cast("BatchSystem", pkgutil.resolve_name(kind.batch))


def look_at_job(engine: str, job: str, sign_of_life: int = 0) -> JobState:
    """What has become of a job, not more than some seconds ago.

    Args:
        engine: which one has it.
        job: its id there.
        sign_of_life: of the job itself, another one whenever it begins (again): what was seen before counts no more.

    Raises:
        LaunchError: the engine cannot be asked.
    """
    key, now = f"{engine} {job}", time.monotonic()
    for stale in [one for one, (at, *_) in list(_seen.items()) if now - at > _FRESH_S]:
        _seen.pop(stale, None)  # another thread may have been quicker
    seen = _seen.get(key)
    if seen is None or sign_of_life not in {0, seen[1]}:
        seen = _seen[key] = time.monotonic(), sign_of_life, batch_system(engine).look(job)
    return seen[2]


def await_limit(system: BatchSystem, near_limit: HeldSignal, told_s: float) -> None:
    """Have the job of this process hear that its time limit is near, also where it was told before it could hear.

    It is told once, and that may be while its script's first lines or an interpreter begin, if it has little time.

    Args:
        system: its engine's.
        near_limit: comes when the engine tells.
        told_s: so many seconds before the limit; 0: it is not told.
    """
    left_s = system.own_time_left() if told_s else None
    if left_s is not None and left_s < told_s + _EARLY_S:
        near_limit.come_in(max(0.0, left_s - told_s))


def put_back(system: BatchSystem, most: int, going_on: AbstractContextManager[object]) -> errors.LaunchError | None:
    """Put the job of this process back into the queue, under its own id, and wait for the end that it has then.

    Args:
        system: its engine's.
        most: how often that may be in all.
        going_on: entered before; what says that the job's work is over has to be undone meanwhile. It is left where
            the engine refuses.

    Returns:
        Only where the job is not put back: what the engine said; None: it was often enough.
    """
    restarts = system.own_restarts()
    if restarts >= most:
        return None
    print(f"kourou: requeue {restarts + 1} of {most}", file=sys.stderr)  # noqa: T201 - the job's output
    try:
        with going_on:
            system.requeue(system.own_job())
            while True:  # until it is ended; other signals may come, such as another one of the limit
                signal.pause()
    except errors.LaunchError as error:
        return error
