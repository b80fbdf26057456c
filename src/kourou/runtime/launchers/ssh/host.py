"""One host of a program, as the launcher has it: an agent, and a thread that tells it what to do, in order.

The thread connects, and waits where a slow network makes one wait, so that the launcher never does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection
from typing import Any, Protocol

from kourou import errors
from kourou.runtime.host_agent.host_service import ENTRY, HostInfo, HostSetup
from kourou.runtime.host_agent.tunnel import Tunnel
from kourou.runtime.launchers.ssh.connection import SshAgent, SshOptions
from kourou.runtime.plan.payloads import Blobs, Payload
from kourou.runtime.plan.plan import ProcessSpec

__all__ = ["HostEvents", "SshHost", "close_all"]

_PIECE_BYTES = 1 << 20  # of a payload: between two of them there is room for heartbeats


class HostEvents(Protocol):
    """What a host tells; from threads of its own, so each must return quickly."""

    def on_host_message(self, host: SshHost, kind: str, *arguments: Any) -> None:
        """A process started, printed or ended: see :class:`kourou.runtime.process.supervisor.ProcessEvents`."""

    def on_host_lost(self, host: SshHost, error: errors.KourouError) -> None:
        """It could not be reached, or is lost, with everything on it. Told once."""


class SshHost:
    """Made, it is on its way. Its owner closes it.

    Args:
        name: the host, as the user wrote it.
        prepare: how it is reached; called in this host's thread, since it may copy files there first, until the event
            is set.
        events: told what happens.
        coordinator: ``(host, port)`` of the coordinator, to which its nodes' connections lead; None: it gets no nodes.
        blobs: the payloads' parts; a host gets those that its nodes need.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[threading.Event], SshOptions],
        events: HostEvents,
        *,
        coordinator: tuple[str, int] | None,
        blobs: Blobs,
    ) -> None:
        self.name = name
        self.info: HostInfo | None = None
        """What it is and has; known once it answered."""
        self.options: SshOptions | None = None
        """How it is reached; known once it answered."""
        self._prepare = prepare
        self._events = events
        self._blobs = blobs
        self._sent: set[str] = set()
        self._commands: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._told = threading.Event()  # it answered, or is lost
        self._lock = threading.Lock()
        self._lost: errors.KourouError | None = None
        self._closed = False
        self._given_up = threading.Event()
        self._agent: SshAgent | None = None
        self._tunnel = Tunnel(self._send_piece, exit_to=coordinator)
        self._thread = threading.Thread(target=self._work, name=f"kourou-host-{name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """It cannot be used any more; another object may reach it again."""
        return self._lost is not None

    def await_info(self) -> HostInfo:
        """Wait until the host has answered.

        Raises:
            AgentFailedError: it cannot be reached, with ssh's own words.
            LaunchError: its files could not be copied.
        """
        self._told.wait()
        if self._lost is not None:
            raise self._lost
        if self.info is None:
            raise errors.AgentFailedError(f"{self.name}: it was closed before it had answered")
        return self.info

    def set_up(self, make: Callable[[HostInfo, SshOptions], HostSetup]) -> None:
        """Tell the host of the run; before the first start."""
        self._commands.put(("set_up", make))

    def start(self, spec: ProcessSpec, attempt: int) -> None:
        """Start a process there; returns at once."""
        self._commands.put(("start", spec, attempt))

    def signal(self, name: str, number: int, *, alone: bool) -> None:
        """Signal a process there; returns at once."""
        self._commands.put(("signal", name, number, alone))

    def close(self) -> None:
        """End the agent, and all that it runs. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            agent = self._agent
        self._given_up.set()
        self._told.set()
        self._commands.put(None)
        if agent is not None:
            agent.close()
        self._thread.join()
        if self._agent is not None:
            self._agent.close()
        self._tunnel.close()

    def _work(self) -> None:
        try:
            self._connect()
            while self.info and not self.lost and (command := self._commands.get()) is not None:
                self._handle(*command)
        except errors.KourouError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            self._lose(errors.LaunchError(f"{self.name}: {type(error).__name__}: {error}"))

    def _handle(self, kind: str, *arguments: Any) -> None:
        if kind == "set_up":
            assert self.info is not None  # noqa: S101 - it has answered
            assert self.options is not None  # noqa: S101 - known before it was asked
            self._send("set_up", arguments[0](self.info, self.options))
            return
        if kind == "start":
            self._send_blobs(arguments[0].payload)
        self._send(kind, *arguments)

    def _connect(self) -> None:
        options = self._prepare(self._given_up)
        with self._lock:
            if self._closed:
                return
            self.options = options
            self._agent = SshAgent(
                self.name,
                options,
                entry=ENTRY,
                on_message=self._on_message,
                on_lost=self._lose,
                on_full=self._tunnel.pause,
            )
        self._agent.await_ready()
        self._send("hello")
        self._told.wait()

    def _send(self, *message: Any) -> None:
        agent = self._agent
        if agent is not None:
            agent.send(*message)

    def _send_piece(self, operation: str, number: int, data: bytes) -> None:
        agent = self._agent
        if agent is not None:
            agent.send_first("tunnel", operation, number, data)

    def _send_blobs(self, payload: Payload | None) -> None:
        for name in payload.blobs if payload is not None else ():
            if name in self._sent:
                continue
            self._sent.add(name)
            view = memoryview(self._blobs[name])
            for offset in range(0, max(1, len(view)), _PIECE_BYTES):
                agent = self._agent
                assert agent is not None  # noqa: S101 - it has answered
                agent.send_bulk("blob", name, bytes(view[offset : offset + _PIECE_BYTES]))

    def _on_message(self, kind: str, *arguments: Any) -> None:
        if kind == "tunnel":
            self._tunnel.receive(*arguments)
        elif kind == "hello":
            (self.info,) = arguments
            self._told.set()
        else:
            self._events.on_host_message(self, kind, *arguments)

    def _lose(self, error: errors.KourouError) -> None:
        with self._lock:
            if self._lost is not None or self._closed:
                self._told.set()
                return
            self._lost = error
        self._told.set()
        self._commands.put(None)
        self._events.on_host_lost(self, error)


class Closable(Protocol):
    """A host as the launcher has it, of this module or another one."""

    name: str

    def close(self) -> None:
        """End its agent."""


def close_all(hosts: Collection[Closable]) -> None:
    """Close hosts side by side: one whose link is cut takes seconds."""
    threads = [threading.Thread(target=host.close, name=f"kourou-close-{host.name}") for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
