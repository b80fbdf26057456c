"""What an agent does for runs of its launcher: a LocalHost, steered by messages."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from kourou import threads
from kourou.nodes.ranks import LOOPBACK_INTERFACE, Place
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.host_agent.addresses import interface_of
from kourou.runtime.metrics.shipping import RowSender
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.node_environment import NODE_VARIABLE, RUN_DIR_VARIABLE
from kourou.spmd.hosts.local import LocalHost, WorkerEvents, WorkerSpec
from kourou.spmd.worker import parcel


class AgentWire(Protocol):
    """What leads to the launcher: a ``Wire``, or the ``Caller`` of an engine's agent."""

    ends: tuple[str, str]
    """The addresses of this host and of the launcher's, where it crosses hosts."""

    def send(self, *message: Any) -> None:
        """Tell the launcher something, after all that was told before; returns at once."""

    def send_bulk(self, *message: Any) -> None:
        """Likewise, but wait until there is room."""

    def end(self, timeout_s: float) -> object:
        """What is still sent is for nobody."""


def serve(wire: AgentWire) -> HostService:
    """The entry of :mod:`kourou.runtime.host_agent.pipe_agent`."""
    return HostService(wire)


class HostService:
    """A :class:`kourou.runtime.host_agent.pipe_agent.Service`. Its first message tells what this host is and has."""

    def __init__(self, wire: AgentWire) -> None:
        self._send = wire.send
        self._outcomes = _OutcomeSender(wire)
        self._host = host = LocalHost()
        self._do_signal, self._do_hold_output = host.signal, host.hold_output
        self._runs: dict[str, _Run] = {}
        self._wire = wire
        self._address = "127.0.0.1"

    def handle(self, kind: str, *arguments: Any) -> None:
        """A message of :class:`kourou.spmd.hosts.remote.RemoteHost`."""
        getattr(self, f"_do_{kind}")(*arguments)

    def pause_output(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Workers that print wait until the launcher has taken what they printed before."""
        self._host.hold_output("", paused)
        for run in list(self._runs.values()):
            if run.metrics is not None:
                run.metrics.pause(paused)

    def close(self) -> None:
        """End all workers."""
        self._host.close()
        self._outcomes.close()
        for run in self._runs.values():
            run.close()

    def _do_hello(self) -> None:
        own, launcher = self._wire.ends
        self._address = own or self._address
        self._send("hello", Inventory.of_this_process(), self._address, launcher or "127.0.0.1")

    def _do_open_rendezvous(self, run: str, address: str, world_size: int) -> None:
        try:
            self._send("rendezvous", run, self._host.open_rendezvous(run, address, world_size))
        except OSError as error:
            self._send("rendezvous", run, f"cannot listen on {address}: {error}")

    def _do_call(self, run: str, piece: bytes) -> None:
        if run not in self._runs:
            self._runs[run] = _Run(run, self._send, self._outcomes)
        parcel.append(self._runs[run].call, piece)

    def _do_start(self, run: str, worker: WorkerSpec) -> None:
        state = self._runs[run]
        interface = interface_of(self._address) or LOOPBACK_INTERFACE
        env = {"GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", interface), **worker.env}
        if NODE_VARIABLE in worker.env:  # somebody wants its metrics
            env[RUN_DIR_VARIABLE] = state.open_metrics()
        self._host.start(run, dataclasses.replace(worker, env=env), state, state.call)

    def _do_release(self, run: str) -> None:
        self._host.release(run)
        state = self._runs.pop(run, None)
        if state is not None:
            state.close()


class _Run(WorkerEvents):
    """Passes on what workers do."""

    def __init__(self, name: str, send: Callable[..., None], outcomes: _OutcomeSender) -> None:
        self._name = name
        self._send = send
        self._outcomes = outcomes
        self.call = parcel.create()
        self.sent: dict[str, str] = {}
        """The outcomes that the launcher has: their names there, by digest."""
        self.metrics: RowSender | None = None
        self._scratch: ScratchFolder | None = None

    def open_metrics(self) -> str:
        """The folder on this host that takes the workers' metrics."""
        if self._scratch is None:
            self._scratch = ScratchFolder()
            self.metrics = RowSender(self._scratch.path, functools.partial(self._send, "metrics", self._name))
        return str(self._scratch.path)

    def close(self) -> None:
        os.close(self.call)
        if self.metrics is not None:
            self.metrics.close()
        if self._scratch is not None:
            self._scratch.remove()

    def on_started(self, place: Place, pid: int) -> None:
        self._send("started", self._name, place, pid)

    def on_line(self, place: Place, text: str, stream: str) -> None:
        self._send("line", self._name, place, text, stream)

    def on_exited(self, place: Place, end: ProcessExit, outcome_fd: int) -> None:
        if self.metrics is not None:
            self.metrics.flush()
        self._outcomes.put(_Outcome(self._name, place, end, outcome_fd, self.sent))


class _Outcome(NamedTuple):
    run: str
    place: Place
    end: ProcessExit
    fd: int
    sent: dict[str, str]  # of the run


class _OutcomeSender:
    """Sends workers' outcomes, one after the other and from a thread: they may be large, and hold nothing else up."""

    def __init__(self, wire: AgentWire) -> None:
        self._wire = wire
        self._queue: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kourou-outcomes", daemon=True)
        threads.start(self._thread)

    def put(self, outcome: _Outcome) -> None:
        """Tell of an end, with the outcome in a parcel that is closed afterwards."""
        self._queue.put(outcome)

    def close(self) -> None:
        """The launcher is gone: what is still queued is for nobody."""
        self._queue.put(None)
        self._wire.end(0.0)
        self._thread.join()

    def _work(self) -> None:
        while (outcome := self._queue.get()) is not None:
            run, place, end, fd, sent = outcome
            name = ""  # of no outcome
            try:
                digest = _digest(fd)
                if digest not in sent:  # what all ranks return, such as a state_dict, travels once
                    for piece in parcel.pieces(fd):
                        self._wire.send_bulk("outcome", run, str(place), piece)
                    sent[digest] = str(place)
                name = sent[digest]
            except Exception as error:  # noqa: BLE001 - whatever it is, the launcher waits for the end
                end = dataclasses.replace(end, cause=f"left a result that its host could not send: {error!r}")
            finally:
                os.close(fd)
            self._wire.send("exited", run, place, end, name)


def _digest(outcome_fd: int) -> str:
    digest = hashlib.sha256()
    for piece in parcel.pieces(outcome_fd):
        digest.update(piece)
    return digest.hexdigest()
