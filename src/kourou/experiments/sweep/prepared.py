"""Runs made ready to be started: commands resolved, functions pickled, folders absolute. Data only."""

from __future__ import annotations

import copyreg
import dataclasses
import hashlib
import pickle
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.courier.wire import codec
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.results.results import run_record
from kourou.experiments.sweep.slots import Slot
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.program import Program
from kourou.runtime.interpreter.user_code import untaken
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.node_environment import RUN_ATTEMPT_VARIABLE, RUN_DIR_VARIABLE, with_devices
from kourou.runtime.plan import absl_flags
from kourou.runtime.plan.preloading import FORKABLE
from kourou.script.packed import pack
from kourou.working_folder import working_folder

WORKER = "kourou.experiments.sweep.run_process"
PAYLOAD_FILE = "payload.pkl"
_PYTHONS = ("python", "python3")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run that can be started as it is, here or on another host with the same file system."""

    run_id: str
    name: str
    folder: Path
    """Absolute."""
    argv: tuple[str, ...]
    """The command; where a payload is run, what another interpreter would have to be called with."""
    payload: bytes | None = dataclasses.field(default=None, repr=False)
    """A pickled function or program with its arguments, for a worker to run."""
    imports: frozenset[str] = frozenset()
    """The libraries that the payload brings along, and that can be forked."""
    env: Mapping[str, str]
    """What is set for this run alone."""
    record: Mapping[str, Any]
    """What sets it apart, as JSON holds it: see ``results.run_record``."""

    def declaration(self) -> dict[str, Any]:
        """What the journal is told of it."""
        return {"run_id": self.run_id, "folder": str(self.folder), **self.record}

    def environment(self, slot: Slot, attempt: int, sweep_dir: Path) -> dict[str, str]:
        """Everything that is set in its environment, the run's own variables having the last word."""
        env = {
            RUN_DIR_VARIABLE: str(self.folder),
            "KOUROU_RUN_NAME": self.name,
            RUN_ATTEMPT_VARIABLE: str(attempt),
            "KOUROU_SWEEP_DIR": str(sweep_dir),
        }
        if self.record["seed"] is not None:
            env["KOUROU_SEED"] = str(self.record["seed"])
        return {**with_devices(env, slot.threads, slot.gpus), **self.env}


def prepare(runs: Iterable[RunSpec], *, python: str = sys.executable) -> list[PreparedRun]:
    """Make runs ready.

    Args:
        runs: which.
        python: what ``python`` means in their commands. The launcher's own, usually: on PATH it may be another one, or
            not there at all.

    Raises:
        PlanError: functions or programs that cannot be pickled; nothing was started.
    """
    prepared: list[PreparedRun] = []
    problems: list[str] = []
    for run in runs:
        try:
            prepared.append(_prepared(run, python))
        except errors.PlanError as error:
            problems += error.problems
    if problems:
        raise errors.PlanError(*problems)
    return prepared


def process_spec(run: PreparedRun, slot: Slot, attempt: int, sweep_dir: Path) -> tuple[ProcessSpec, dict[str, Any]]:
    """What the supervisor starts for a run, and what its worker needs beside it, if it has one."""
    spec = ProcessSpec(
        name=run.run_id,
        argv=run.argv,
        interpreter=sys.executable,
        env=tuple(sorted(run.environment(slot, attempt, sweep_dir).items())),
        cwd=str(working_folder()),
        cpus=slot.cpus,
        memory_bytes=slot.memory_bytes,
        merge_stderr=False,
    )
    if run.payload is None:
        return spec, {}
    boot = {
        "entry": WORKER,
        "path": [str(Path(path).absolute()) for path in sys.path],
        "payload_file": str(run.folder / PAYLOAD_FILE),
        "payload_sha256": hashlib.sha256(run.payload).hexdigest(),
    }
    return dataclasses.replace(spec, argv=tuple(sys.argv)), boot


def _prepared(run: RunSpec, python: str) -> PreparedRun:
    folder = Path(run.folder).absolute()
    payload, imports = None, frozenset[str]()
    if run.command is not None:
        first = python if run.command[0] in _PYTHONS else run.command[0]
        argv = (first, *run.command[1:])
    else:
        argv = (sys.executable, "-m", WORKER, str(folder / PAYLOAD_FILE))
        payload, imports = _pickled(run)
    return PreparedRun(
        run_id=run.run_id,
        name=run.name,
        folder=folder,
        argv=argv,
        payload=payload,
        imports=imports,
        env=dict(run.env),
        record=run_record(run),
    )


def _pickled(run: RunSpec) -> tuple[bytes, frozenset[str]]:
    kind = "function" if run.function is not None else "program"
    target = run.function if run.function is not None else run.program
    arguments = {} if isinstance(target, Program) else run.arguments
    if not isinstance(target, Program):
        mistakes = untaken(target, (), arguments)
        if mistakes:
            raise errors.PlanError(*(f"run {run.name}: {mistake}" for mistake in mistakes))
    values = {kind: target, **{f"params[{name!r}]": value for name, value in arguments.items()}}
    try:
        packed = pack(values, f"run {run.name}", reduce=_reduced, reducers=codec.reducers(), libraries=FORKABLE)
    except errors.SerializationError as error:
        raise errors.PlanError(*(f"{line}; make it in the run itself" for line in str(error).splitlines())) from error
    return pickle.dumps((kind, tuple(arguments), packed), 5), packed.values.imports.libraries


def _reduced(value: Any) -> tuple[Any, ...] | None:
    """Take a whole program along: handles keep their nodes, which those that travel alone do not."""
    if isinstance(value, Handle):
        return copyreg.__newobj__, (type(value),), vars(value)  # type: ignore[attr-defined] # pickle's own protocol 2
    return absl_flags.reduced(value)
