"""Where clients come in: what a connection has to offer to be served, and the socket at which it begins."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias

from kourou.courier.lanes.loop.poller import Readiness
from kourou.courier.lanes.loop.quota import Strangers, most_strangers
from kourou.courier.serving.session import Session
from kourou.courier.wire.frames import Frame

__all__ = ["Entrance", "ServedConnection", "Welcome"]

_GREETING_S = 10.0  # how long a client may take to say who it is
_HURRY_S = 0.25  # how long if others wait for its place


class ServedConnection(Protocol):
    """A client, as the leader sees it: first a stranger, then, after its greeting, a session.

    Attributes:
        descriptor: of its socket.
        leader: the thread that reads, and that writes the answers of a batch together.
        serving: the leader is at a batch of this connection.
        frames: that were read but not acted on.
    """

    descriptor: int
    leader: int
    serving: bool
    frames: deque[Frame]
    session: Session | None

    @property
    def owes(self) -> bool:
        """Whether there is something to write that nobody is about to write."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether so many answers wait for the client to take them that no further call of it shall begin.

        When that is over, ``drain`` lets those calls begin that the pool has put off.
        """
        ...

    def greet(self) -> bool:
        """Read what a stranger says. False when it was somebody else's client, who has its socket now.

        Raises:
            OSError: it is gone.
            ProtocolError: it makes no sense.
            Unauthenticated: it has another token.
        """
        ...

    def read(self) -> None:
        """Read what is there.

        Raises:
            OSError: the client is gone.
            ProtocolError: what came makes no sense.
        """

    def drain(self) -> None:
        """There is room in the socket again."""

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""

    def tend(self) -> None:
        """Now and then: look after it.

        Raises:
            OSError: it is gone.
        """

    def refuse(self, error: Exception) -> bool:
        """It makes no sense, or has another token. Whether it is to be closed at once."""
        ...

    def settle(self) -> bool:
        """Write what is queued, without waiting. Whether all of it is on its way."""
        ...

    def close(self) -> None:
        """Let go of the client: its calls are cancelled."""


Welcome: TypeAlias = Callable[[socket.socket, Readiness, int], ServedConnection | None]
"""Makes a connection of an accepted socket, or sends it away and returns None. It is also given where to wait for the
socket, and the leader's thread."""


class Entrance:
    """A socket where clients connect, and those of them who have not said yet who they are."""

    def __init__(self, listener: socket.socket, welcome: Welcome, ready: Readiness) -> None:
        self.listener = listener
        self.welcome = welcome
        self.strangers: Strangers[ServedConnection] = Strangers(
            most_strangers(), patience_s=_GREETING_S, hurry_s=_HURRY_S
        )
        self.is_shut = True
        self._ready = ready

    def open(self) -> None:
        """Let those in who wait, unless there are too many strangers."""
        if self.is_shut and not self.strangers.is_full:
            self.is_shut = False
            self._ready.register(self.listener.fileno(), select.POLLIN)

    def shut(self) -> None:
        """Let those who want to connect wait for housekeeping, or for a stranger to go: there is no room for them."""
        if not self.is_shut:
            self.is_shut = True
            self._ready.unregister(self.listener.fileno())

    def forget(self, stranger: ServedConnection) -> None:
        """It has said who it is, or has gone."""
        if stranger in self.strangers:
            self.strangers.discard(stranger)
            self.open()
