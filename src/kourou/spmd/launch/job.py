"""One run: workers are started, watched and ended, and their outcomes become a result or an error."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from kourou import errors
from kourou.nodes.ranks import Place, place_variables
from kourou.runtime.launchers.ssh.connection import SshOptions
from kourou.runtime.metrics.shipping import receive
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.node_environment import NODE_VARIABLE, RUN_DIR_VARIABLE
from kourou.runtime.waiting.event_queue import next_of
from kourou.spmd.hosts.local import LocalHost, WorkerEvents, WorkerSpec
from kourou.spmd.hosts.places import Host, assign_ranks
from kourou.spmd.launch.output import HandlerFactory, OnOutput, Output
from kourou.spmd.launch.root_cause import WorkerExit, exception_of, root_cause, waited_for
from kourou.spmd.worker import parcel

if TYPE_CHECKING:
    from kourou.spmd.hosts.allocated import Allocation
    from kourou.spmd.hosts.remote import RemoteHost

_TERMINATED = 128 + signal.SIGTERM  # what programs exit with that handle it
_TERMINATE_S = 1.0  # from SIGTERM to SIGKILL of those who are left when one failed: the error waits for them
_MANY_LINES, _FEW_LINES = 10_000, 1_000  # that wait for the run's handlers: workers that print wait, or print on
_GONE_S = 10.0  # from one end to the next of workers that were killed


class Cancelled(Exception):
    """The run was cancelled."""


Way: TypeAlias = "SshOptions | Allocation"
"""How a host is reached."""
WorkerHost: TypeAlias = "LocalHost | RemoteHost"
"""Where workers run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What is run, where, and how."""

    hosts: tuple[Host, ...]
    env: Mapping[str, str] = dataclasses.field(repr=False)
    """What the user wants every worker to have."""
    local_env: Mapping[str, str]
    """What those of this machine have beside it."""
    devices: Mapping[int, str]
    """CUDA_VISIBLE_DEVICES by rank, where the user asked for it."""
    cwd: str
    backend: str | None
    timeout_s: float
    log_level: int
    way: Way
    """How other hosts are reached."""
    address: str
    """Of the first host, where ranks meet; all hosts reach it."""
    retries: int = 0
    """How often it is done again after a failure that the function did not raise."""
    handlers: HandlerFactory = None
    """Makes the run's handlers."""
    on_output: OnOutput | None = None
    """Called with its lines."""
    metrics_of: tuple[str, str] = ("", "")
    """The folder that takes the ranks' metrics, and the node that calls them, see ``metrics_owner``."""


class Job(WorkerEvents):
    """Made for one run; its :meth:`run` is the run."""

    def __init__(self, name: str, spec: JobSpec, host_of: Callable[[Host], WorkerHost]) -> None:
        self._name = name
        self._spec = spec
        self._places = assign_ranks(spec.hosts)
        self._hosts = {host.name: host_of(host) for host in spec.hosts}
        self._events: queue.SimpleQueue[Callable[[Output], None]] = (
            queue.SimpleQueue()
        )  # what the run's thread does next
        self._held = False  # the workers' output
        self._holding = threading.Lock()
        self._alive: set[Place] = set()
        self._pids: dict[Place, int] = {}
        self._ends: dict[Place, WorkerExit] = {}
        self._failed: list[WorkerExit] = []  # by themselves, in the order in which it was seen
        self._cancelled = False
        self._lost: errors.AgentFailedError | None = None
        self._sent: set[int] = set()  # the signals that all who were left got
        self._kill_at: float | None = None  # set once the others are being ended
        self._given_up = False  # of those who are left only the end is waited for

    def run(self, call: int, output: Output) -> dict[str, list[Any]]:
        """Run; what the workers returned, by host and local rank.

        Raises:
            Exception: the one that a worker raised, or what became of it; all other workers are gone by then.
            Cancelled: it was cancelled.
        """
        try:
            self._start(call)
            while self._alive:
                self._step(output)
        except BaseException:
            self._end_all()
            raise
        finally:
            for host in self._hosts.values():
                host.release(self._name)
        if self._lost is not None:
            raise self._lost
        if self._failed:
            raise self._failure(output)
        if self._cancelled:
            raise Cancelled
        results: dict[str, list[Any]] = {host.name: [] for host in self._spec.hosts}
        for place in self._places:
            results[place.hostname].append(self._ends[place].outcome.value)
        return results

    def _failure(self, output: Output) -> Exception:
        cause = root_cause(self._failed)
        error = exception_of(cause)
        ended = [end.place for end in self._ends.values() if not end.succeeded and self._was_ended_by_us(end)]
        if told := waited_for(cause, ended):
            output.agent_line(cause.place.hostname, told, logging.ERROR)
            if sys.version_info >= (3, 11):
                error.add_note(told)
        return error

    def cancel(self) -> None:
        """End all workers. Thread-safe, idempotent."""
        self._put(self._cancel)

    def on_started(self, place: Place, pid: int) -> None:
        self._put(self._started, place, pid)

    def on_line(self, place: Place, text: str, stream: str) -> None:
        self._put(self._printed, place, text, stream)
        if self._events.qsize() > _MANY_LINES:
            self._hold_output()

    def _hold_output(self) -> None:
        with self._holding:  # looked at in here, or the run might have taken all before its workers are held
            waiting = self._events.qsize()
            if waiting > _MANY_LINES if not self._held else waiting < _FEW_LINES:
                self._held = not self._held
                for host in self._hosts.values():
                    host.hold_output(self._name, self._held)

    def on_exited(self, place: Place, end: ProcessExit, outcome_fd: int) -> None:
        self._put(self._exited, place, end, outcome_fd, time.monotonic())

    def on_metrics(self, kind: str, *message: Any) -> None:
        receive(self._spec.metrics_of[0], kind, *message)

    def on_lost(self, hostname: str, error: errors.AgentFailedError) -> None:
        self._put(self._lose, hostname, error)

    def _put(self, act: Callable[..., None], *arguments: Any) -> None:
        self._events.put(lambda output: act(output, *arguments))

    def _start(self, call: int) -> None:
        spec = self._spec
        first = spec.hosts[0]
        rendezvous = self._hosts[first.name].open_rendezvous(self._name, spec.address, len(self._places))
        local = {host.name for host in spec.hosts if host.local}
        for place in self._places:
            own = spec.local_env if place.hostname in local else {}
            env = {**own, **spec.env, **place_variables(place, rendezvous)}
            if place.rank in spec.devices:
                env["CUDA_VISIBLE_DEVICES"] = spec.devices[place.rank]
            folder, caller = spec.metrics_of
            if folder:
                env[NODE_VARIABLE] = f"{caller} rank/{place.rank}".lstrip()
                env |= {RUN_DIR_VARIABLE: folder} if place.hostname in local else {}
            worker = WorkerSpec(
                place=place,
                rendezvous=rendezvous,
                env=env,
                cwd=spec.cwd,
                backend=spec.backend,
                timeout_s=spec.timeout_s,
                log_level=spec.log_level,
            )
            self._hosts[place.hostname].start(self._name, worker, self, call)
            self._alive.add(place)

    def _step(self, output: Output) -> None:
        wait_s = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        try:
            event = next_of(self._events, wait_s)
        except queue.Empty:
            self._signal_all(signal.SIGKILL)
            return
        if self._held:
            self._hold_output()
        event(output)

    def _printed(self, output: Output, place: Place, text: str, stream: str) -> None:
        output.worker_line(place, text, stream)

    def _started(self, output: Output, place: Place, pid: int) -> None:
        self._pids[place] = pid
        output.agent_line(place.hostname, f"{place} is process {pid}")

    def _lose(self, output: Output, hostname: str, error: errors.AgentFailedError) -> None:
        self._lost = self._lost or error
        output.agent_line(hostname, str(error), logging.ERROR)
        self._alive = {place for place in self._alive if place.hostname != hostname}
        self._terminate_all()

    def _cancel(self, _output: Output) -> None:
        self._cancelled = True
        self._terminate_all()

    def _exited(self, output: Output, place: Place, ended: ProcessExit, outcome_fd: int, seen_s: float) -> None:
        self._alive.discard(place)
        if self._given_up:
            os.close(outcome_fd)
            return
        end = WorkerExit(
            place=place,
            exit=ended,
            outcome=_read_outcome(outcome_fd),
            seen_s=seen_s,
            pid=self._pids.get(place),
            log_file=output.log_file(place),
        )
        self._ends[place] = end
        if end.succeeded:
            output.agent_line(place.hostname, f"{place} returned")
            return
        output.agent_line(place.hostname, f"{place} {end.cause}", logging.ERROR)
        if not self._was_ended_by_us(end):
            self._failed.append(end)
        self._terminate_all()

    def _was_ended_by_us(self, end: WorkerExit) -> bool:
        """A worker that failed was made to, when another one had failed before."""
        if end.exit.signal is not None:
            return end.exit.signal in self._sent
        return bool(self._sent) and end.outcome is None and end.exit.code == _TERMINATED

    def _terminate_all(self) -> None:
        if self._kill_at is None:
            self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        self._kill_at = time.monotonic() + _TERMINATE_S
        self._sent.add(number)
        for place in self._alive:
            self._hosts[place.hostname].signal(self._name, place, number)

    def _end_all(self) -> None:
        """The run cannot go on here: kill those who are there, and wait until they are gone."""
        self._given_up, self._kill_at = True, time.monotonic()
        for place in self._alive:
            with contextlib.suppress(errors.LaunchError):  # its host has a fault, and ends it by itself
                self._hosts[place.hostname].signal(self._name, place, signal.SIGKILL)
        with contextlib.suppress(queue.Empty):
            while self._alive:
                next_of(self._events, _GONE_S)(Output((), None))


def _read_outcome(outcome_fd: int) -> Any:
    """Read a worker's outcome and close its descriptor."""
    try:
        return parcel.read(outcome_fd)
    except errors.SerializationError as error:
        return error
    finally:
        os.close(outcome_fd)
