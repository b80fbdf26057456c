"""Running a sweep on this host: what has finished is skipped, what was lost is run again."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from kourou import errors, limits
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.failures import SweepInterrupted, check_word
from kourou.experiments.journal.journal import Journal, declare, locked_journal, read_launches
from kourou.experiments.journal.run_folder import own_folder, write_json
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.journal.sweep_folder import remember
from kourou.experiments.sweep.begun import check_begun
from kourou.experiments.sweep.free_memory import GpuGate, Memory
from kourou.experiments.sweep.prepared import PreparedRun, prepare
from kourou.experiments.sweep.provenance import Provenance
from kourou.experiments.sweep.scheduler import Scheduler, SweepOptions
from kourou.experiments.sweep.slots import Share, Slot, SlotPool, engine_slots, make_slots
from kourou.notebook import table
from kourou.runtime.context.context import current_node
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.process import process_table
from kourou.runtime.process.supervisor import Supervisor
from kourou.runtime.stopping.exit_signals import interrupted

AnyRun = TypeVar("AnyRun", RunSpec, PreparedRun)

Rerun: TypeAlias = Literal["lost", "failed", "all"]
"""What is run again beside what never ran. ``lost``: what was interrupted, or whose launcher died. ``failed``: and what
failed. ``all``: everything."""

SOURCE_FILE = "sweep.json"
"""What a sweep was made from, so that it can be continued from its folder alone."""

_AGAIN: dict[str, frozenset[RunState]] = {
    "lost": frozenset({RunState.LOST, RunState.INTERRUPTED}),
    "failed": frozenset({RunState.LOST, RunState.INTERRUPTED, RunState.FAILED, RunState.TIMEOUT}),
    "all": frozenset(state for state in RunState if state.ended),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a launch of a sweep ended."""

    folder: Path
    """The sweep's folder."""
    records: tuple[RunRecord, ...]
    """Of all runs that it was given, in their order, those that were skipped included."""
    stopped: str = ""
    """``interrupted`` or ``fail-fast``, where it ended before its runs had; ``detached``: a batch system has them."""

    @classmethod
    def of(cls, journal: Journal, folder: Path, runs: Iterable[AnyRun], stopped: str) -> SweepOutcome:
        """What a journal says of runs.

        Raises:
            SweepInterrupted: the launch was.
            StopRequested: it was, by the stop of the node that this code is of.
        """
        records = tuple(journal.records[run.run_id] for run in runs)
        outcome = cls(folder=folder, records=records, stopped=stopped)
        if stopped == "interrupted":
            if (node := current_node()) is not None and node.stop.event.is_set():
                raise errors.StopRequested
            text = f"the sweep in {folder} was stopped; the same call goes on where it was"
            raise interrupted(SweepInterrupted(text, outcome.exit_code, outcome))
        return outcome

    @property
    def failed(self) -> tuple[RunRecord, ...]:
        """The runs that failed for good."""
        return tuple(record for record in self.records if record.state.failed)

    @property
    def exit_code(self) -> int:
        """0: all well; 1: a run failed, or was lost or cancelled; 130: the sweep was interrupted."""
        if self.stopped == "interrupted":
            return 130
        fine = {RunState.SUCCEEDED, RunState.QUEUED, RunState.RUNNING, RunState.PENDING}
        return int(any(record.state not in fine for record in self.records))

    def _repr_html_(self) -> str:
        """Its runs, as a notebook shows them."""
        names = list(dict.fromkeys(name for record in self.records for name in record.params))
        rows = [
            (
                record.name,
                record.state,
                *(record.params.get(name) for name in names),
                record.seed,
                record.attempt or None,
                f"{record.ended_at - record.started_at:.1f} s" if record.ended_at and record.started_at else None,
                None if record.state is RunState.SUCCEEDED else record.cause,
            )
            for record in self.records
        ]
        told = f"{self.folder}, {self.stopped}" if self.stopped else str(self.folder)
        return table(told, ("run", "state", *names, "seed", "try", "took", "why"), rows)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able summary."""
        counts = {str(state): sum(r.state is state for r in self.records) for state in RunState}
        return {
            "folder": str(self.folder),
            "exit_code": self.exit_code,
            "stopped": self.stopped,
            "states": {state: count for state, count in counts.items() if count},
            "runs": [record.to_dict() for record in self.records],
        }


@limits.told("run the sweep")
def run_sweep(  # noqa: PLR0913 - the knobs of a launch, by keyword
    runs: Sequence[RunSpec],
    folder: str | os.PathLike[str],
    *,
    on: EngineOptions | None = None,
    share: Share | None = None,
    options: SweepOptions | None = None,
    rerun: Rerun = "lost",
    inventory: Inventory | None = None,
    memory: Memory | None = None,
    slots: Sequence[Slot] | None = None,
    adapt: Callable[[ProcessSpec, PreparedRun, Slot], ProcessSpec] | None = None,
    on_change: Callable[[RunRecord], None] | None = None,
    source: dict[str, Any] | None = None,
    make_supervisor: Callable[..., Any] = Supervisor,
) -> SweepOutcome:
    """Run all runs that have not finished yet, and wait for them.

    Failed runs raise nothing: look at the outcome.

    Args:
        runs: all runs of the sweep.
        folder: the sweep's folder, where its journal is kept; one that exists is continued.
        on: an engine, such as ``lp.Slurm(nodes=4)``: all runs share the hosts of one allocation; None: this host.
        share: how the machine is shared among runs; None: a run for each CPU. On an engine's hosts, what each run gets
            and how many there are at once say what is asked for; nothing said: one CPU, and a run on each host.
        options: retries, limits, and how runs are stopped.
        rerun: what is run again.
        inventory: the CPUs and GPUs to share; None: those that this process may use.
        memory: the memory to share; None: what this process may use.
        slots: the places themselves, in place of ``share`` and ``inventory``.
        adapt: changes what is started to the slot that it got.
        on_change: called with the record of every run that changes.
        source: what the runs were made from, kept in ``sweep.json``.
        make_supervisor: see :class:`kourou.experiments.sweep.scheduler.Scheduler`.

    Raises:
        PlanError: more CPUs, GPUs or memory are asked for than there are, or a function cannot be pickled; nothing was
            started.
        DescriptionError: two runs are the same, or share a folder.
        SweepBusy: another process runs this sweep.
        SweepError: its folder cannot be used, or all hosts of an engine are lost.
        LaunchError: the engine refuses; with its own words.
        SweepInterrupted: Ctrl-C came, and all runs have ended.
        StopRequested: a node launched it, and is to stop; all runs have ended.
    """
    check_rerun(rerun)
    options = options or SweepOptions()
    specs = check_begun(runs, folder)
    share, memory = share or Share(), memory or Memory.of_this_process()
    if on is not None:
        make_supervisor, slots = _hosts_of(on, share, len(specs))
    elif slots is None:
        slots = make_slots(share, inventory or Inventory.of_this_process(with_gpus=share.gives_gpus), memory)
    gate = None if share.gpu_memory_bytes is None else GpuGate(share.gpu_memory_bytes, memory)
    pool = SlotPool(slots, share.parallel, gate)
    prepared = prepare(specs)
    top = open_sweep(folder)
    launch_id = new_launch_id(top)
    with locked_journal(top) as journal:
        end_leftovers(top, journal)
        backend = "processes" if on is None else f"on {on.launch_type}"
        journal.launch(launch_id, backend=backend, slots=len(slots), parallel=share.parallel)
        declare(journal, [run.declaration() for run in prepared])
        chosen = select_runs(journal, top, prepared, rerun, source)
        scheduler = Scheduler(
            top,
            journal,
            chosen,
            pool,
            options,
            launch_id=launch_id,
            provenance=lambda: Provenance.of_this_process(launch_id),
            adapt=adapt,
            on_change=on_change,
            make_supervisor=make_supervisor,
        )
        if chosen:
            scheduler.run()
        return SweepOutcome.of(journal, top, prepared, scheduler.stopped)


def _hosts_of(engine: EngineOptions, share: Share, count: int) -> tuple[Callable[..., Any], Sequence[Slot]]:
    from kourou.experiments.sweep.engine_hosts import EngineHosts  # noqa: PLC0415 - others need none of it

    shape, slots = engine_slots(share, engine, count)
    return partial(EngineHosts, engine=engine, shape=shape), slots


def open_sweep(folder: str | os.PathLike[str]) -> Path:
    """The sweep's folder, absolute; it is made if need be.

    Raises:
        PlanError: it cannot be made.
    """
    top = Path(folder).absolute()
    try:
        own_folder(top)
    except OSError as error:
        raise errors.PlanError(f"cannot make the sweep's folder {top}: {error}; choose another one") from error
    remember(top)
    return top


def new_launch_id(folder: Path) -> str:
    """Marks the processes of one launch; colons and spaces would end it early in a cookie."""
    plain = "".join(char if char.isalnum() or char in "-_." else "-" for char in folder.name)[:40]
    return f"sweep-{plain}-{secrets.token_hex(6)}"


def select_runs(
    journal: Journal, folder: Path, runs: Sequence[AnyRun], rerun: Rerun, source: dict[str, Any] | None
) -> list[AnyRun]:
    """Those that are run now, in order; what is run again is journalled so, and what a sweep is made from is kept."""
    chosen = [run for run in runs if should_run(journal.records[run.run_id].state, rerun)]
    for run in chosen:
        if journal.records[run.run_id].state is not RunState.PENDING:
            journal.append("rerun", run.run_id)
    journal.commit()
    if source is not None:
        write_json(folder / SOURCE_FILE, source)
    return chosen


def check_rerun(rerun: str) -> None:
    """Refuse a rule that there is not.

    Raises:
        PlanError: naming those that there are.
    """
    check_word("rerun is", rerun, get_args(Rerun), errors.PlanError)


def should_run(state: RunState, rerun: Rerun) -> bool:
    """Whether a run in this state is run now, by a rule that :func:`check_rerun` let pass."""
    return state is RunState.PENDING or state in _AGAIN[rerun]


_GRACE_S = 3.0  # a zygote whose launcher died ends all below it in less than 2 s
_POLL_S = 0.02


def end_leftovers(folder: Path, journal: Journal) -> None:
    """Make sure that nothing of earlier launches runs any more, and journal as lost what they did not see end.

    The caller holds the sweep's lock, so their launchers are dead; on this host, so must be all that they started.
    """
    lost = [record for record in journal.records.values() if record.state is RunState.RUNNING and not record.job]
    if not lost:
        return
    here = socket.gethostname()
    launches = [launch.launch_id for launch in read_launches(folder) if launch.host == here]
    if launches:  # one was written down only after it had made sure of those before it
        _wait_for_end(f"{launches[-1]}:")
    for record in lost:
        cause = f"its launcher on {record.host or 'this host'} died"
        journal.append("ended", record.run_id, state=str(RunState.LOST), cause=cause)
    journal.commit()


def _wait_for_end(cookie: str) -> None:
    deadline = time.monotonic() + _GRACE_S
    while left := [pid for pid in process_table.escaped_from(cookie) if process_table.alive(pid)]:
        if time.monotonic() > deadline:
            process_table.signal_all(left)
        time.sleep(_POLL_S)
