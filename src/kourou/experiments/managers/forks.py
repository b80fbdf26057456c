"""Runs as forks of this process, which have all that it has; and when that cannot go well."""

from __future__ import annotations

import functools
import os
import selectors
import signal
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kourou import cpython, errors, threads
from kourou.closing import ClosedAtExit
from kourou.experiments.agents.process_globals import torch_module
from kourou.experiments.sweep import run_process
from kourou.limits import with_remedy
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.output.output_pipes import OutputPipes
from kourou.runtime.process import prctl, process_table
from kourou.runtime.process.supervisor import ProcessEvents
from kourou.standard_streams import flush_printed
from kourou.tracebacks import format_failure

_GRPC_THREADS = ("grpc_", "event_engine", "lifeguard")  # names of gRPC's own threads, which Python does not know
_TASKS = Path("/proc/self/task")
_DRAIN_S = 0.2


def why_not_fork(threads: int | None) -> str | None:
    """What in this process would hang in a fork of it, in words; None: nothing that is known."""
    names = [_name_of(task) for task in _TASKS.glob("*/comm")]
    if any(name.startswith(_GRPC_THREADS) for name in names):
        return "gRPC works in this process, and its threads do not come along: a fork would hang at its first call"
    torch = torch_module()
    if torch is None:
        return None
    if torch.cuda.is_initialized():
        return "torch has initialized CUDA in this process, which a fork cannot use"
    if (threads or torch.get_num_threads()) > 1:
        return "torch is loaded, and its OpenMP threads do not come along: a fork would hang once it used several"
    return None


class ForkSupervisor(ClosedAtExit):
    """Starts functions in forks of this process, each in a session of its own.

    Args:
        events: told of what happens, in threads of this class.
        run_id: unused; marks come with the environment of processes that are executed.
        ignored: what only a zygote needs.
    """

    def __init__(self, events: ProcessEvents, *, run_id: str, **ignored: Any) -> None:
        del ignored, run_id
        self._events = events
        self._pids: dict[str, int] = {}
        self._lock = threading.Lock()
        self._watchers: list[threading.Thread] = []

    def close(self) -> None:
        """End what runs, and wait for it."""
        for name in list(self._pids):
            self.signal(name, signal.SIGKILL)
        for watcher in self._watchers:
            watcher.join()

    def prepare(self) -> None:
        """Nothing has to be."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any]) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.start`. It forks in the calling thread."""
        try:
            output = OutputPipes(("stdout", "stderr"), functools.partial(self._tell, spec.name))
            pid = _fork(spec, boot, output)
        except OSError as error:
            self._events.on_exited(spec.name, attempt, ProcessExit.not_started(with_remedy(error)))
            return
        with self._lock:
            self._pids[spec.name] = pid
        self._events.on_started(spec.name, attempt, pid)
        watcher = threading.Thread(
            target=self._watch, args=(spec.name, attempt, pid, output), name=f"kourou-fork-{spec.name}", daemon=True
        )
        try:
            threads.start(watcher)
        except errors.LaunchError as error:  # nobody would read what it prints
            self.signal(spec.name, signal.SIGKILL)
            self._watch(spec.name, attempt, pid, output, f"could not start: {error}")
            return
        self._watchers.append(watcher)

    def _tell(self, name: str, line: str, stream: str) -> None:
        self._events.on_line(name, line, stream)

    def signal(self, name: str, number: int) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.signal`."""
        with self._lock:  # its watcher has not reaped it, so its pid is its own
            if name in self._pids:
                process_table.signal_all(process_table.ProcessTable().members(self._pids[name]), number)

    def _watch(self, name: str, attempt: int, pid: int, output: OutputPipes, cause: str = "") -> None:
        _read(pid, output)
        with self._lock:
            _, status = os.waitpid(pid, 0)
            del self._pids[name]
        code = os.waitstatus_to_exitcode(status)
        killed, lines = code < 0, tuple(output.last_lines)
        number = -code if killed else None
        ending = ProcessExit(code=None if killed else code, signal=number, last_lines=lines, cause=cause)
        self._events.on_exited(name, attempt, ending)


def _fork(spec: ProcessSpec, boot: Mapping[str, Any], output: OutputPipes) -> int:
    """Fork this process for a run; the child's pid.

    Raises:
        OSError: it cannot be forked; the pipes are closed.
    """
    flush_printed()
    parent = os.getpid()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: why_not_fork has looked
            pid = os.fork()
        if pid == 0:
            _run_child(spec, boot, parent, dict(zip((1, 2), output.write_ends, strict=True)))
    except OSError:
        for read_end in output.read_ends:
            output.close(read_end)
        raise
    finally:
        for write_end in output.write_ends:
            os.close(write_end)
    return pid


def _read(pid: int, output: OutputPipes) -> None:
    """Tell all lines until the process has ended, and end what it has started."""
    ended: float | None = None  # seconds that its pipes may stay silent, once the process has ended
    with selectors.DefaultSelector() as selector:
        pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        for fd in (*output.read_ends, *([] if pidfd is None else [pidfd])):
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and (ready := selector.select(ended)):
            for key, _ in ready:
                if key.fd == pidfd:
                    ended = _DRAIN_S
                    selector.unregister(key.fd)
                    _end_members(pid)
                elif not output.read(key.fd):
                    selector.unregister(key.fd)
                    output.close(key.fd)
    for fd in output.read_ends:
        output.close(fd)
    if pidfd is not None:
        os.close(pidfd)
    _end_members(pid)


def _end_members(pid: int) -> None:
    """End what a fork that has ended, or closed its output, left behind."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    process_table.signal_all(process_table.ProcessTable().members(pid) - {pid})


def _run_child(spec: ProcessSpec, boot: Mapping[str, Any], parent: int, streams: Mapping[int, int]) -> NoReturn:
    """In the child: run the run, and never return to the code that forked."""
    code = 1
    try:
        os.setsid()
        prctl.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        cpython.forget_exit_functions()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for fd, source in streams.items():
            os.dup2(source, fd)
        os.environ.update(spec.env)
        if spec.cpus is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, spec.cpus)
        code = run_process.run({"name": spec.name, **boot, "argv": spec.argv})
    except BaseException as error:  # noqa: BLE001 - it must not reach the code that forked
        os.write(2, format_failure(error).encode(errors="replace"))
    finally:
        os._exit(code)


def _name_of(task: Path) -> str:
    try:
        return task.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it ended while we looked
        return ""
