"""One host of a program, as the launcher has it: what its agent is told, in order, and what it answered."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kourou import errors
from kourou.runtime.host_agent.first_messages import HostInfo, HostSetup
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.tunnel import Tunnel
from kourou.runtime.launchers.hosts.transport import Transport, TransportEvents
from kourou.runtime.model.process import Blobs, Payload, ProcessSpec
from kourou.shown import described

_PIECE_BYTES = 1 << 20  # of a payload: between two of them there is room for heartbeats


class HostEvents(Protocol):
    """What a host tells; from threads of its own, so each must return quickly."""

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: Any) -> None:
        """A process started, printed or ended: see :class:`kourou.runtime.process.supervisor.ProcessEvents`."""

    def on_host_lost(self, host: RemoteHost, error: errors.KourouError) -> None:
        """It could not be reached, or is lost, with everything on it. Told once."""


class RemoteHost(TransportEvents):
    """Made, it is on its way. Its owner closes it.

    Args:
        coordinator: the loop, and ``(host, port)`` of the coordinator, to which its nodes' connections lead; None: it
            gets no nodes.
        blobs: the payloads' parts; a host gets those that its nodes need.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[TransportEvents], Transport],
        events: HostEvents,
        *,
        coordinator: tuple[LoopThread, tuple[str, int]] | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self.name = name
        self.info: HostInfo | None = None
        """What it is and has; known once it answered."""
        self.running: dict[str, int] = {}
        """Which attempt of what runs there, as its owner notes."""
        self._events = events
        self._blobs = {} if blobs is None else blobs  # more may come
        self._sent: set[str] = set()
        self._lock = threading.RLock()  # a transport may tell something while it is told something
        self._commands: list[Callable[[HostInfo], None]] | None = []
        """What waits for its answer; None: nothing has to any more."""
        self._told = threading.Event()  # it answered, or is lost
        self._lost: errors.KourouError | None = None
        self._closed = False
        self._tunnel = Tunnel(coordinator[0], self._send_piece, exit_to=coordinator[1]) if coordinator else None
        self._transport = connect(self)
        self._transport.send("hello")

    @property
    def lost(self) -> bool:
        """It cannot be used any more; another object may reach it again."""
        return self._lost is not None

    @property
    def loss(self) -> errors.KourouError | None:
        """Why it is lost."""
        return self._lost

    @property
    def shown(self) -> str:
        """What people are told: its own name, where the plan knows but a place."""
        return self._transport.name or self.name

    def await_info(self) -> HostInfo:
        """Wait until the host has answered.

        Raises:
            AgentFailedError: it cannot be reached, with ssh's or its engine's own words.
            LaunchError: its files could not be copied.
        """
        self._told.wait()
        if self._lost is not None:
            raise self._lost
        if self.info is None:
            raise errors.AgentFailedError(f"{self.name}: it was closed before it had answered")
        return self.info

    def set_up(self, make: Callable[[HostInfo, Transport], HostSetup]) -> None:
        """Tell the host of the run; before the first start."""
        self._when_there(lambda info: self._transport.send("set_up", make(info, self._transport)))

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any] | None = None) -> None:
        """Start a process there; returns at once.

        Args:
            spec: what to start.
            attempt: 1 for the first start.
            boot: see :meth:`kourou.runtime.process.supervisor.Supervisor.start`; None: it is a node.
        """
        self._when_there(lambda _: self._start(spec, attempt, boot))

    def signal(self, name: str, number: int) -> None:
        """Signal a process there; returns at once."""
        self._when_there(lambda _: self._transport.send("signal", name, number))

    def close(self) -> None:
        """End the agent, and all that it runs. Idempotent."""
        with self._lock:
            self._closed = True
            self._commands = None
        self._told.set()
        self._transport.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def on_message(self, kind: str, *arguments: Any) -> None:
        if kind == "tunnel":
            if self._tunnel is not None:
                self._tunnel.receive(*arguments)
        elif kind == "hello":
            self._on_hello(*arguments)
        else:
            self._events.on_host_message(self, kind, *arguments)

    def on_lost(self, error: errors.KourouError) -> None:
        with self._lock:
            self._commands = None
            if self._lost is not None or self._closed:
                self._told.set()
                return
            self._lost = error
        self._told.set()
        if self._tunnel is not None:  # or the coordinator would go on telling those who were there
            self._tunnel.finish()
        self._events.on_host_lost(self, error)

    def on_full(self, full: bool) -> None:  # noqa: FBT001 - a callback
        if self._tunnel is not None:
            self._tunnel.pause(full)

    def _on_hello(self, info: HostInfo) -> None:
        try:
            with self._lock:
                self.info = info
                waiting, self._commands = self._commands or [], None
                for command in waiting:
                    command(info)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            self.on_lost(errors.LaunchError(f"{self.name}: {described(error)}"))
        self._told.set()

    def _when_there(self, command: Callable[[HostInfo], None]) -> None:
        with self._lock:
            if self._commands is not None:
                self._commands.append(command)
            elif self.info is not None and not self.lost and not self._closed:
                command(self.info)

    def _start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any] | None) -> None:
        self._send_blobs(spec.payload)
        self._transport.send("start", spec, attempt, boot)

    def _send_piece(self, operation: str, number: int, data: bytes) -> None:
        self._transport.send_first("tunnel", operation, number, data)

    def _send_blobs(self, payload: Payload | None) -> None:
        for name in payload.blobs if payload is not None else ():
            if name in self._sent:
                continue
            self._sent.add(name)
            view = memoryview(self._blobs[name])
            for offset in range(0, max(1, len(view)), _PIECE_BYTES):
                piece = pickle.PickleBuffer(view[offset : offset + _PIECE_BYTES])
                self._transport.send_late("blob", name, piece)
