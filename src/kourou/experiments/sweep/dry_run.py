"""What a launch on this host would start, found without starting, making or writing anything."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.journal.looking import known_records
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.sweep.begun import check_begun
from kourou.experiments.sweep.free_memory import Memory
from kourou.experiments.sweep.launch import AnyRun, Rerun, check_rerun, should_run
from kourou.experiments.sweep.prepared import PreparedRun, prepare, process_spec
from kourou.experiments.sweep.slots import Share, Slot, SlotPool, engine_slots, make_slots
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.process import ProcessSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedStart:
    """One process that would be started."""

    name: str
    run_id: str
    folder: str
    attempt: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """What is set for it."""
    cwd: str
    slot: int
    """Its place, if all runs take equally long."""
    gpus: tuple[str, ...] | None
    cpus: tuple[int, ...] | None


def plan_sweep(  # noqa: PLR0913 - the knobs of a launch, by keyword
    runs: Sequence[RunSpec],
    folder: str | os.PathLike[str],
    *,
    on: EngineOptions | None = None,
    share: Share | None = None,
    rerun: Rerun = "lost",
    inventory: Inventory | None = None,
    memory: Memory | None = None,
    slots: Sequence[Slot] | None = None,
    adapt: Callable[[ProcessSpec, PreparedRun, Slot], ProcessSpec] | None = None,
) -> list[PlannedStart]:
    """What :func:`kourou.experiments.run_sweep` would start, with the same arguments; it raises the same errors."""
    share = share or Share()
    if on is not None:
        _, slots = engine_slots(share, on, len(runs))
    elif slots is None:
        slots = make_slots(share, inventory or Inventory.of_this_process(with_gpus=share.gives_gpus), memory)
    top = Path(folder).absolute()
    pool, taken = SlotPool(slots, share.parallel), list[Slot]()
    planned = []
    for run, record in unfinished_runs(prepare(check_begun(runs, top)), top, rerun):
        if not pool.has_room:
            pool.release(taken.pop(0))
        taken.append(pool.acquire())
        planned.append(_planned(run, taken[-1], record.attempt + 1 if record else 1, top, adapt))
    return planned


def unfinished_runs(
    runs: Iterable[AnyRun], folder: str | os.PathLike[str], rerun: Rerun
) -> list[tuple[AnyRun, RunRecord | None]]:
    """The runs that a launch would take up, each with what the journal says of it, if it knows it.

    Raises:
        PlanError: there is no such rule.
    """
    check_rerun(rerun)
    known = known_records(Path(folder).absolute())
    listed = [(run, known.get(run.run_id)) for run in runs]
    return [(run, rec) for run, rec in listed if should_run(rec.state if rec else RunState.PENDING, rerun)]


def _planned(
    run: PreparedRun,
    slot: Slot,
    attempt: int,
    top: Path,
    adapt: Callable[[ProcessSpec, PreparedRun, Slot], ProcessSpec] | None,
) -> PlannedStart:
    spec, boot = process_spec(run, slot, attempt, top)
    spec = adapt(spec, run, slot) if adapt is not None else spec
    return PlannedStart(
        name=run.name,
        run_id=run.run_id,
        folder=str(run.folder),
        attempt=attempt,
        argv=spec.argv if not boot else run.argv,
        env=dict(spec.env),
        cwd=spec.cwd,
        slot=slot.index,
        gpus=slot.gpus,
        cpus=spec.cpus,
    )
