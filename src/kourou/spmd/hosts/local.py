"""The workers of this machine: a supervisor whose zygote has torch imported, and the files that values travel in."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.nodes.process_group import bind, torch_is_there
from kourou.nodes.ranks import Place, Rendezvous
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.process.channel import close_fds
from kourou.runtime.process.preload import Preload
from kourou.runtime.process.supervisor import ProcessEvents, Supervisor
from kourou.spmd.worker import parcel

_OWN_MODULES = ("kourou.spmd.worker.main", "kourou.courier.wire.codec", "cloudpickle")
_TORCH_MODULES = ("torch", "torch.distributed", "kourou.courier.wire.codec_torch")


class WorkerEvents:
    """What a host tells of a run's workers; from a thread of its own, so each must return quickly."""

    def on_started(self, place: Place, pid: int) -> None:
        """The worker's process exists."""

    def on_line(self, place: Place, text: str, stream: str) -> None:
        """It printed a line."""

    def on_exited(self, place: Place, end: ProcessExit, outcome_fd: int) -> None:
        """It ended, and all that it started. ``outcome_fd`` is its parcel's descriptor, which the callee closes."""

    def on_metrics(self, kind: str, *message: Any) -> None:
        """Workers of another host logged: see ``kourou.runtime.metrics.shipping``."""

    def on_lost(self, hostname: str, error: errors.AgentFailedError) -> None:
        """The host is lost, and all workers on it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """One worker to start."""

    place: Place
    rendezvous: Rendezvous
    env: Mapping[str, str] = dataclasses.field(repr=False)
    """What differs from the environment that the host gives."""
    cwd: str
    backend: str | None
    timeout_s: float
    log_level: int


@dataclasses.dataclass
class _Worker:
    place: Place
    events: WorkerEvents
    outcome_fd: int


class LocalHost(ProcessEvents):
    """Starts workers on this machine. Its owner closes it.

    The zygote stays from one run to the next, so only the first pays for ``import torch``. It has one thread at most
    besides the main one (BLAS's, which is made for forks) and no device in use.
    """

    def __init__(self) -> None:
        self._preload = _TORCH_MODULES if torch_is_there() else ()
        self._scratch = ScratchFolder()
        self._folder = self._scratch.path
        self._workers: dict[str, _Worker] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._holders: set[str] = set()  # runs that have enough of their output, and "" for who passes it on
        self._lock = threading.Lock()
        with contextlib.ExitStack() as undo:
            undo.callback(self._scratch.remove)
            self._supervisor = Supervisor(
                self,
                run_id=self._folder.name,
                folder=self._folder,
                preload=Preload(modules=_OWN_MODULES),
            )
            undo.pop_all()

    def open_rendezvous(self, run: str, address: str, world_size: int) -> Rendezvous:
        """Bind the socket that rank 0 of a run will serve the store on; it is handed to it when it is started.

        Raises:
            OSError: this host does not have that address.
        """
        listener = bind(address, world_size)
        with self._lock:
            self._listeners[run] = listener
        return Rendezvous(address=address, port=listener.getsockname()[1])

    def start(self, run: str, worker: WorkerSpec, events: WorkerEvents, call: int) -> None:
        """Start one worker of a run."""
        spec = ProcessSpec(
            name=_name(run, worker.place),
            argv=tuple(sys.argv),
            interpreter=sys.executable,
            env=tuple(sorted(worker.env.items())),
            cwd=worker.cwd,
            merge_stderr=False,
            preload=self._preload,
        )
        boot = {
            "entry": "kourou.spmd.worker.main",
            "path": [str(Path(path).absolute()) for path in sys.path],
            "place": dataclasses.asdict(worker.place),
            "rendezvous": dataclasses.asdict(worker.rendezvous),
            "backend": worker.backend,
            "timeout_s": worker.timeout_s,
            "log_level": worker.log_level,
        }
        with contextlib.ExitStack() as undo:
            outcome_fd = parcel.create()
            undo.callback(os.close, outcome_fd)
            fds: list[int] = []
            undo.callback(close_fds, fds)
            fds += [os.dup(call)]
            fds += [os.dup(outcome_fd)]
            with self._lock:
                if worker.place.rank == 0:
                    fds += [self._listeners.pop(run).detach()]
                self._workers[spec.name] = _Worker(worker.place, events, outcome_fd)
            undo.callback(self._workers.pop, spec.name)
            self._supervisor.start(spec, 1, boot, fds)
            undo.pop_all()

    def hold_output(self, run: str, held: bool) -> None:  # noqa: FBT001 - see Supervisor
        """Read no more of what workers print, or read on once no run has them held."""
        with self._lock:
            (self._holders.add if held else self._holders.discard)(run)
            self._supervisor.pause_output(bool(self._holders))

    def signal(self, run: str, place: Place, number: int) -> None:
        """Send a signal to a worker and all that it started."""
        self._supervisor.signal(_name(run, place), number)

    def release(self, run: str) -> None:
        """A run has ended, or was never started."""
        with self._lock:
            listener = self._listeners.pop(run, None)
        self.hold_output(run, held=False)
        if listener is not None:
            listener.close()

    def close(self) -> None:
        """End what still runs, and the zygote. Idempotent."""
        self._supervisor.close()
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
            listeners, self._listeners = list(self._listeners.values()), {}
        for listener in listeners:
            listener.close()
        for worker in workers:
            os.close(worker.outcome_fd)
        self._scratch.remove()

    # -- what the supervisor tells ------------------------------------------------------------------------------

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        del attempt
        worker = self._workers[name]
        worker.events.on_started(worker.place, pid)

    def on_line(self, name: str, line: str, stream: str) -> None:
        worker = self._workers[name]
        worker.events.on_line(worker.place, line, stream)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        del attempt
        with self._lock:
            worker = self._workers.pop(name)
        worker.events.on_exited(worker.place, exit, worker.outcome_fd)


def _name(run: str, place: Place) -> str:
    return f"{run}/{place.rank}"
