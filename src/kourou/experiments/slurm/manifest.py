"""What a Slurm job carries out: one run of a manifest, under the same scheduler as on any host.

Shortly before the job's time limit Slurm sends SIGUSR1: the run is told to save its work, and the job is put back into
the queue under its own id, as often as the sweep allows. How the run ended is written to its folder, where the
launcher, or whoever reads it later, finds it without any accounting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kourou import threads
from kourou.experiments.journal.journal import Journal, declare, try_lock
from kourou.experiments.journal.requests import take_requests
from kourou.experiments.journal.run_folder import EXIT_FILE, own_folder, read_json, write_json, write_whole
from kourou.experiments.journal.run_records import RunState
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.slurm.template import run_script
from kourou.experiments.sweep.launch import new_launch_id
from kourou.experiments.sweep.prepared import PreparedRun
from kourou.experiments.sweep.provenance import Provenance
from kourou.experiments.sweep.scheduler import Scheduler, SweepOptions
from kourou.experiments.sweep.slots import Slot, SlotPool
from kourou.ownership import read_own
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.launchers.engines.batch_systems import await_limit, put_back
from kourou.runtime.launchers.engines.slurm_batch import BATCH
from kourou.runtime.stopping.held_signal import HeldSignal

_SHUTDOWN_S = 5.0  # of the time before the limit: for the run's end and for requeuing
_BUSY = 75  # EX_TEMPFAIL
_IN_SCRIPT = 2  # the index of the argument that names it
_POLL_S = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The runs of one launch, as their jobs read them."""

    folder: Path
    """The sweep's."""
    runs: tuple[PreparedRun, ...]
    attempts: tuple[int, ...]
    """Of each run, the number of the attempt that its job makes first."""
    options: SweepOptions
    slurm: SlurmOptions
    path: tuple[str, ...]
    """The launcher's ``sys.path``."""

    def save(self, file: Path) -> None:
        """Write it."""
        write_whole(file, pickle.dumps(self))


def run_one(argv: Sequence[str], near_limit: HeldSignal) -> int:
    """Run the run at a place of a manifest, in the user's script if there is a third argument; the job's exit code.

    Args:
        argv: the manifest, the place, and the script.
        near_limit: comes when the job's time limit is near.
    """
    manifest: Manifest = pickle.loads(read_own(argv[0]))
    sys.path += [folder for folder in manifest.path if folder not in sys.path]
    run, attempt = manifest.runs[int(argv[1])], manifest.attempts[int(argv[1])]
    own_folder(run.folder)
    in_script = len(argv) > _IN_SCRIPT
    if in_script or manifest.slurm.template is None:  # else the batch process is another one, which tells this one
        await_limit(BATCH, near_limit, manifest.slurm.told_s)
    if in_script:
        code = run_script(Path(argv[_IN_SCRIPT]), run.folder, near_limit)
        saved = near_limit.came and (read_json(run.folder / EXIT_FILE) or {}).get("state") == RunState.INTERRUPTED
        return _requeue(run, manifest.slurm.requeues) if saved else code
    lock = os.open(run.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not try_lock(lock, run.folder / ".lock"):
        print(f"kourou: {run.name} is being run by another job", file=sys.stderr)  # noqa: T201 - the job's output
        return _BUSY
    return _run(manifest, run, attempt + slurm_commands.own_restarts(), near_limit)


def _run(manifest: Manifest, run: PreparedRun, attempt: int, near_limit: HeldSignal) -> int:
    journal = Journal(run.folder, on_disk=False)
    declare(journal, [run.declaration()])
    before = journal.records[run.run_id]
    journal.records[run.run_id] = dataclasses.replace(before, attempt=attempt - 1)
    launch_id = new_launch_id(manifest.folder)
    cpus = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    scheduler = Scheduler(
        manifest.folder,
        journal,
        [run],
        SlotPool([Slot(index=0, threads=cpus)]),
        manifest.options,
        launch_id=launch_id,
        provenance=lambda: _provenance(launch_id),
        takes_requests=False,
    )
    slurm = manifest.slurm
    number = signal.Signals[f"SIG{slurm.checkpoint_signal.removeprefix('SIG')}"]
    wait_s = max(1.0, slurm.signal_s - _SHUTDOWN_S - manifest.options.terminate_s)
    near_limit.deliver_to(lambda: scheduler.checkpoint(number, wait_s))
    if slurm.template is not None:
        told = (run.folder, lambda: scheduler.checkpoint(number, wait_s))
        waiting = threading.Thread(target=_await_checkpoint_request, args=told, name="kourou-checkpoint", daemon=True)
        threads.start(waiting)
    scheduler.run()
    record = journal.records[run.run_id]
    if run.run_id in scheduler.checkpointed:  # from a template, whoever runs that requeues it
        return _requeue(run, slurm.requeues) if slurm.template is None else _BUSY
    return 0 if record.state is RunState.SUCCEEDED else record.code or 1


def _await_checkpoint_request(folder: Path, checkpoint: Callable[[], None]) -> None:
    """Wait for what the job's batch process asks for through the run's folder."""
    while not any(request.kind == "checkpoint" for request in take_requests(folder)):
        time.sleep(_POLL_S)
    checkpoint()


def _provenance(launch_id: str) -> Provenance:
    found = Provenance.of_this_process(launch_id)
    return dataclasses.replace(found, facts={**found.facts, "job": slurm_commands.own_job()})


def _requeue(run: PreparedRun, most: int) -> int:
    """Have this job begin again; an exit code, where it does not."""
    file = run.folder / EXIT_FILE
    exit_info: dict[str, Any] = read_json(file) or {}

    @contextlib.contextmanager
    def going_on() -> Iterator[None]:
        write_json(file, {**exit_info, "requeued": True})
        yield

    refusal = put_back(BATCH, most, going_on())
    restarts = slurm_commands.own_restarts()
    words = f"{restarts + 1} times; it was requeued {restarts} times" if refusal is None else f"and {refusal}"
    write_json(file, {**exit_info, "state": str(RunState.TIMEOUT), "cause": f"reached its time limit, {words}"})
    return 1
