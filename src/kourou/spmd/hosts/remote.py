"""The workers of another host, as the launcher has them: an agent there does what LocalHost does here."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from kourou import errors
from kourou.nodes.ranks import Place, Rendezvous
from kourou.runtime.launchers.ssh.connection import SshAgent, SshOptions
from kourou.runtime.launchers.ssh.sync import with_files
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.waiting.event_queue import next_of
from kourou.spmd.hosts.local import WorkerEvents, WorkerSpec
from kourou.spmd.worker import parcel

ENTRY = "kourou.spmd.hosts.service"
"""The agent's service, see :mod:`kourou.runtime.host_agent.pipe_agent`."""

_LOOK_S = 0.1  # how often to see whether an answer is not waited for any more
_BROKE = "the connection to its agent broke"


class Agent(Protocol):
    """What leads to an agent."""

    @property
    def lost(self) -> bool:
        """It cannot be used any more."""
        ...

    def await_ready(self, check: Callable[[], None]) -> None:
        """Wait until it is there; ``check`` is called now and then, and what it raises ends the waiting.

        Raises:
            AgentFailedError: it is not.
        """

    def send(self, *message: Any) -> None:
        """Tell it something; returns at once."""

    def send_bulk(self, *message: Any) -> None:
        """Likewise, but wait until there is room."""

    def close(self) -> None:
        """End it, and all that it runs."""


MakeAgent: TypeAlias = "Callable[[Callable[..., None], Callable[[errors.AgentFailedError], None]], Agent]"


def host_over_ssh(name: str, options: SshOptions, abandoned: threading.Event) -> RemoteHost:
    """A host that ssh leads to; once ``abandoned`` is set, files are not copied there any more.

    Raises:
        LaunchError: files could not be copied to it.
    """
    options = with_files(name, options, abandoned)

    def make(on_message: Callable[..., None], on_lost: Callable[[errors.AgentFailedError], None]) -> SshAgent:
        return SshAgent(name, options, entry=ENTRY, on_message=on_message, on_lost=on_lost)

    return RemoteHost(name, options.timeout_s, make, copied=options.tree is not None)


class RemoteHost:
    """Made, it is on its way; :meth:`await_ready` waits for it.

    Args:
        name: the host, as the user wrote it; or its place in an allocation.
        timeout_s: for an answer.
        make_agent: starts the agent, or has it called; it is told whom to tell of messages, and of its loss.
        copied: the working folder there is a copy.
    """

    def __init__(self, name: str, timeout_s: float, make_agent: MakeAgent, *, copied: bool = False) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._runs: dict[str, WorkerEvents] = {}
        self._outcomes: dict[str, dict[str, int]] = {}  # parcels of each run, by the names that they came under
        self._answers: queue.SimpleQueue[tuple[Any, ...] | errors.AgentFailedError] = queue.SimpleQueue()
        self.inventory: Inventory | None = None
        """What it has to hand out; known once it is ready."""
        self.address = ""
        """Where other hosts reach it; known once it is ready."""
        self.launcher_address = ""
        """Where it sees this machine; known once it is ready."""
        self._copied = copied
        self._agent = make_agent(self._on_message, self._on_lost)

    @property
    def lost(self) -> bool:
        """It has to be made anew."""
        return self._agent.lost

    def await_ready(self, check: Callable[[], None]) -> None:
        """Wait until the host is there, and known.

        Args:
            check: called now and then; what it raises ends the waiting.

        Raises:
            AgentFailedError: it is not, with ssh's own words.
        """
        self._agent.await_ready(check)
        if self.inventory is None:
            self.inventory, self.address, self.launcher_address = self._ask("hello", (), answer=("hello",), check=check)

    def open_rendezvous(self, run: str, address: str, world_size: int) -> Rendezvous:
        """See :class:`kourou.spmd.hosts.local.LocalHost`."""
        (reply,) = self._ask("open_rendezvous", (run, address, world_size), answer=("rendezvous", run))
        if isinstance(reply, Rendezvous):
            return reply
        raise self._failure(str(reply))

    def start(self, run: str, worker: WorkerSpec, events: WorkerEvents, call: int) -> None:
        """See :class:`kourou.spmd.hosts.local.LocalHost`. The call is sent with the first worker of the run."""
        with self._lock:
            first = run not in self._runs
            self._runs[run] = events
        if self.lost:  # perhaps before the run was among those that are told
            events.on_lost(self.name, self._failure(_BROKE))
        if first:
            for piece in parcel.pieces(call):
                self._agent.send_bulk("call", run, piece)
        # In a copy, the agent's own folder is what the launcher's is here.
        self._agent.send("start", run, dataclasses.replace(worker, cwd="") if self._copied else worker)

    def signal(self, run: str, place: Place, number: int) -> None:
        """See :class:`kourou.spmd.hosts.local.LocalHost`."""
        self._agent.send("signal", run, place, number)

    def hold_output(self, run: str, held: bool) -> None:  # noqa: FBT001 - see LocalHost
        """See :class:`kourou.spmd.hosts.local.LocalHost`."""
        self._agent.send("hold_output", run, held)

    def release(self, run: str) -> None:
        """A run has ended."""
        with self._lock:
            known = self._runs.pop(run, None)
            outcomes = self._outcomes.pop(run, {})
        for fd in outcomes.values():
            os.close(fd)
        if known is not None:
            self._agent.send("release", run)

    def close(self) -> None:
        """End the agent and all that it runs."""
        self._agent.close()

    def _ask(
        self,
        kind: str,
        question: tuple[Any, ...],
        *,
        answer: tuple[str, ...],
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Any, ...]:
        """What follows in an answer that begins with ``answer``; others are to questions that nobody asks any more."""
        with self._asking:  # runs that start at once must not take each other's answers
            if self.lost:
                raise self._failure(_BROKE)
            self._agent.send(kind, *question)
            until = time.monotonic() + self._timeout_s
            while True:
                check()
                try:
                    found = next_of(self._answers, min(_LOOK_S, max(0.0, until - time.monotonic())))
                except queue.Empty:
                    if self.lost:  # it was closed meanwhile, and nobody is told of that
                        raise self._failure(_BROKE) from None
                    if time.monotonic() < until:
                        continue
                    raise self._failure(f"its agent did not answer within {self._timeout_s:g} s") from None
                if isinstance(found, errors.AgentFailedError):
                    raise found
                if found[: len(answer)] == answer:
                    return found[len(answer) :]

    def _failure(self, what: str) -> errors.AgentFailedError:
        error = errors.AgentFailedError(f"{self.name}: {what}")
        error.hostname = self.name
        return error

    def _on_message(self, kind: str, *arguments: Any) -> None:
        if kind in {"hello", "rendezvous"}:
            self._answers.put((kind, *arguments))
            return
        run, *rest = arguments
        if kind == "outcome":
            self._append(run, *rest)
            return
        with self._lock:
            events = self._runs.get(run)
        if events is None:
            return
        if kind == "exited":
            self._exited(events, run, *rest)
        else:  # started, line or metrics
            getattr(events, f"on_{kind}")(*rest)

    def _append(self, run: str, name: str, piece: bytes) -> None:
        with self._lock:
            if run in self._runs:
                parcel.append(self._outcome_fd(run, name), piece)

    def _exited(self, events: WorkerEvents, run: str, place: Place, end: ProcessExit, name: str) -> None:
        with self._lock:
            if run not in self._runs:
                return
            outcome_fd = os.dup(self._outcome_fd(run, name))  # the same for all workers with the same outcome
        events.on_exited(place, end, outcome_fd)

    def _outcome_fd(self, run: str, name: str) -> int:
        outcomes = self._outcomes.setdefault(run, {})
        if name not in outcomes:
            outcomes[name] = parcel.create()
        return outcomes[name]

    def _on_lost(self, error: errors.AgentFailedError) -> None:
        self._answers.put(error)
        with self._lock:
            runs = list(self._runs.values())
        for events in runs:
            events.on_lost(self.name, error)
