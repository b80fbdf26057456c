"""The jobs of runs that were submitted, as their engines tell of them."""

from __future__ import annotations

import pkgutil
import time
from typing import cast

from kourou import errors
from kourou.runtime.launchers.engines.base import BatchSystem, JobState
from kourou.runtime.model.engines import known_engines

_FRESH_S = 2.0  # an engine is not asked again within
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
    seen = _seen.get(f"{engine} {job}")
    if seen is None or time.monotonic() - seen[0] > _FRESH_S or sign_of_life not in {0, seen[1]}:
        seen = _seen[f"{engine} {job}"] = time.monotonic(), sign_of_life, batch_system(engine).look(job)
    return seen[2]
