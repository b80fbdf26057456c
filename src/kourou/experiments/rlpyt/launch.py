"""rlpyt's launcher: variants of a configuration over the slots of an affinity code.

A script gets its slot's affinity code, its folder, the run's number and further arguments, as rlpyt's scripts do.
Unlike there, a launch that is repeated goes on where it was, every run has logs, and exit codes count.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.describe.runs import RunSpec, setting_id
from kourou.experiments.describe.variants import save_variant, to_dotted
from kourou.experiments.failures import AffinityError, DescriptionError
from kourou.experiments.journal.run_folder import RunLogs
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.rlpyt.affinity import RunAffinity, all_cpus
from kourou.experiments.rlpyt.affinity_code import get_n_run_slots, prepend_run_slot
from kourou.experiments.rlpyt.cpus import fit_affinity
from kourou.experiments.sweep.launch import Rerun, SweepOutcome, new_launch_id, run_sweep
from kourou.experiments.sweep.prepared import PreparedRun
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Slot
from kourou.runtime.files.log_writer import LogWriter
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.process.preload import COMMANDS
from kourou.runtime.process.supervisor import ProcessEvents, Supervisor

_SLOT = "{run_slot_affinity_code}"  # where a run's command names its slot, which is known when it starts


def run_experiments(  # noqa: PLR0913, PLR0917 - rlpyt's arguments, and ours by keyword
    script: str | os.PathLike[str],
    affinity_code: str,
    experiment_title: str,
    runs_per_setting: int,
    variants: Sequence[Mapping[str, Any]],
    log_dirs: Sequence[str],
    common_args: Sequence[Any] | None = None,
    runs_args: Sequence[Sequence[Any]] | None = None,
    set_egl_device: bool = False,  # noqa: FBT001, FBT002 - rlpyt's signature
    *,
    log_root: str | os.PathLike[str] = "runs",
    python_executable: str | None = None,
    options: SweepOptions | None = None,
    rerun: Rerun = "lost",
    on_change: Callable[[RunRecord], None] | None = None,
) -> SweepOutcome:
    """Run a script for each variant, as often as asked: every variant once, then every variant again.

    Args:
        script: called with its slot's affinity code, its variant's folder, the number of the run, and its arguments.
        affinity_code: how the machine is divided; see ``encode_affinity``.
        experiment_title: names the experiment's folder.
        runs_per_setting: runs of each variant.
        variants: dictionaries, each saved as ``variant_config.json`` in its folder.
        log_dirs: their folders, relative to the experiment's.
        common_args: arguments for every run.
        runs_args: further arguments for each variant.
        set_egl_device: let EGL draw on the run's GPU.
        log_root: where the experiment's folder is made.
        python_executable: the Python that runs the script; None: this one.
        options: retries, limits, and how runs are stopped.
        rerun: what is run again, should the experiment have been launched before.
        on_change: called with the record of every run that changes.

    Raises:
        DescriptionError: lengths that do not match.
        AffinityError: the code means nothing, or more cores than there are.
        SweepBusy: another process runs this experiment.
    """
    folder = Path(log_root, experiment_title).absolute()
    extra = [()] * len(variants) if runs_args is None else runs_args
    if not len(variants) == len(log_dirs) == len(extra):
        raise DescriptionError(
            f"each variant has a folder and arguments: got {len(variants)} variants, {len(log_dirs)} log_dirs and "
            f"{len(extra)} runs_args"
        )
    python = python_executable or sys.executable
    runs = [
        _run(folder / log_dir, run_id, variant, [python, str(script), _SLOT, str(folder / log_dir), str(run_id), *args])
        for run_id in range(runs_per_setting)
        for variant, log_dir, args in zip(
            variants, log_dirs, ([str(a) for a in (*(common_args or ()), *own)] for own in extra), strict=True
        )
    ]
    slots, adapt = _slots_of_code(affinity_code, set_egl_device=set_egl_device)
    progress = _ProgressFiles(folder, log_dirs, len(runs))
    for variant, log_dir in zip(variants, log_dirs, strict=True):
        save_variant(variant, folder / log_dir)
    progress.write()

    def note(record: RunRecord) -> None:
        progress.note(record)
        if on_change is not None:
            on_change(record)

    return run_sweep(runs, folder, slots=slots, adapt=adapt, options=options, rerun=rerun, on_change=note)


class LaunchedExperiment(ProcessEvents):
    """A run that was launched by itself, to be waited for as a ``subprocess.Popen`` is.

    It ends with this process; its output is in ``stdout.log`` and ``stderr.log`` of its folder.
    """

    def __init__(self, spec: ProcessSpec, folder: Path, rotation: Rotation) -> None:
        self.args = spec.argv
        self.pid: int | None = None
        self.returncode: int | None = None
        self._name = spec.name
        self._logs = RunLogs(folder, LogWriter(rotation))
        self._ended = threading.Event()
        self._supervisor = Supervisor(self, run_id=new_launch_id(folder), folder=folder, preload=COMMANDS)
        self._supervisor.start(spec, 1, {})

    def poll(self) -> int | None:
        """The exit code; None while it runs; minus its number where a signal ended it."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code.

        Raises:
            subprocess.TimeoutExpired: ``timeout`` seconds have passed.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0.0)
        self._supervisor.close()
        assert self.returncode is not None  # noqa: S101 - set with the event
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the run and all that it started."""
        self._supervisor.signal(self._name, number)

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        del name, attempt
        self.pid = pid

    def on_line(self, name: str, line: str, stream: str) -> None:
        del name
        self._logs.write(line, stream)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        del name, attempt
        self.returncode = exit.code if exit.code is not None else -(exit.signal or 0)
        self._logs.close()
        self._ended.set()


def launch_experiment(  # noqa: PLR0913, PLR0917 - rlpyt's arguments
    script: str | os.PathLike[str],
    run_slot: int,
    affinity_code: str,
    log_dir: str | os.PathLike[str],
    variant: Mapping[str, Any],
    run_ID: int,  # noqa: N803 - rlpyt's name
    args: Sequence[Any] = (),
    python_executable: str | None = None,
    set_egl_device: bool = False,  # noqa: FBT001, FBT002 - rlpyt's signature
) -> LaunchedExperiment:
    """Start a single run in one slot, and return at once. The arguments are those of :func:`run_experiments`.

    Raises:
        AffinityError: the code means nothing, or more cores than there are; or it has no such slot.
        PlanError: KOUROU_LOG_MAX_BYTES or KOUROU_LOG_BACKUP_COUNT is no whole number from 1 on.
    """
    prepend_run_slot(run_slot, affinity_code)  # refuses a slot that there is not
    rotation = Rotation.from_environment()
    folder = Path(log_dir).absolute()
    python = python_executable or sys.executable
    command = [python, str(script), _SLOT, str(folder), str(run_ID), *map(str, args)]
    run = _run(folder, run_ID, variant, command)
    slots, adapt = _slots_of_code(affinity_code, set_egl_device=set_egl_device)
    save_variant(variant, folder)
    Path(run.folder).mkdir(parents=True, exist_ok=True)
    own = {"KOUROU_RUN_DIR": run.folder}
    spec = ProcessSpec(
        name=run.run_id,
        argv=tuple(command),
        interpreter=sys.executable,
        env=tuple(own.items()),
        merge_stderr=False,
    )
    return LaunchedExperiment(adapt(spec, None, slots[run_slot]), Path(run.folder), rotation)


def _run(folder: Path, run_id: int, variant: Mapping[str, Any], command: Sequence[str]) -> RunSpec:
    return RunSpec(
        name=f"{folder.name}/run_{run_id}",
        folder=str(folder / f"run_{run_id}"),
        command=tuple(command),
        params=to_dotted(variant),
        repeat=run_id,
        setting=setting_id([*command[1:3], str(folder), *command[5:]], variant, {}),
    )


def _slots_of_code(
    affinity_code: str, *, set_egl_device: bool
) -> tuple[tuple[Slot, ...], Callable[[ProcessSpec, PreparedRun | None, Slot], ProcessSpec]]:
    """The slots of a code, and what turns a run's command into that of its slot."""
    codes = [prepend_run_slot(i, affinity_code) for i in range(get_n_run_slots(affinity_code))]
    if not codes:
        raise AffinityError(f"affinity code {affinity_code!r} has no slot: one run takes more than the machine has")
    affinities = [fit_affinity(code) for code in codes]
    slots = tuple(  # also where set_affinity is off, which keeps runs from pinning their own processes
        Slot(index=i, cpus=all_cpus(affinity), threads=max(1, len(set(all_cpus(affinity)))))
        for i, affinity in enumerate(affinities)
    )

    def adapt(spec: ProcessSpec, run: PreparedRun | None, slot: Slot) -> ProcessSpec:
        del run
        env = dict(spec.env)
        gpu = _first_gpu(affinities[slot.index])
        if set_egl_device and gpu is not None:
            env |= {"EGL_DEVICE_ID": str(gpu), "MUJOCO_EGL_DEVICE_ID": str(gpu)}
        argv = tuple(codes[slot.index] if word == _SLOT else word for word in spec.argv)
        return dataclasses.replace(spec, argv=argv, env=tuple(sorted(env.items())), cpus=slot.cpus)

    return slots, adapt


def _first_gpu(affinity: RunAffinity) -> int | None:
    part: Any = affinity[0] if isinstance(affinity, list) else affinity
    if "optimizer" in part:
        part = part["optimizer"][0]
    gpu: int | None = part.get("cuda_idx")
    return gpu


class _ProgressFiles:
    """rlpyt's two files of progress."""

    def __init__(self, folder: Path, log_dirs: Sequence[str], total: int) -> None:
        self._folder = folder
        self._log_dirs = log_dirs
        self._total = total
        self._launched: set[str] = set()

    def write(self) -> None:
        lines = [
            f"Experiment manager process ID: {os.getpid()}.",
            f"Number of settings (experiments) to run: {len(self._log_dirs)}  ({self._total}).",
            "",
            *self._log_dirs,
        ]
        self._folder.joinpath("experiments_tree.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def note(self, record: RunRecord) -> None:
        if record.state is RunState.RUNNING and record.run_id not in self._launched:
            self._launched.add(record.run_id)
            text = f"Experiments launched so far: {len(self._launched)} out of {self._total}.\n"
            self._folder.joinpath("num_launched.txt").write_text(text, encoding="utf-8")
