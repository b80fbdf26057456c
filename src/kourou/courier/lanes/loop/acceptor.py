"""Where clients come in: what a connection has to offer to be served, and the socket at which it begins."""

from __future__ import annotations

import abc
import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.lanes.loop.quota import ConnectionQuota, max_unauthenticated
from kourou.courier.serving.session import Session
from kourou.courier.wire.frames import Frame

_GREETING_TIMEOUT_S = 10.0  # how long a client may take to say who it is
_CROWDED_TIMEOUT_S = 0.25  # how long if others wait for its place


class ServedConnection(abc.ABC):
    """A client, as the event loop sees it: first unauthenticated, then, after its greeting, not.

    Attributes:
        descriptor: of its socket.
        loop_thread: the thread that reads, and that writes the answers of a batch together.
        serving: the event loop is at a batch of this connection, not at its last call: answers may wait.
        frames: that were read but not acted on.
        session: acts on them; there is one once there are frames.
    """

    def __init__(self, descriptor: int, loop_thread: int) -> None:
        self.descriptor = descriptor
        self.loop_thread = loop_thread
        self.serving = False
        self.frames: deque[Frame] = deque()
        self.session: Session | None = None

    @property
    def is_authenticated(self) -> bool:
        """Whether the client has shown the token."""
        return self.session is not None

    @property
    def needs_flush(self) -> bool:
        """Whether there is something to write that nobody is about to write."""
        return False

    @property
    def is_congested(self) -> bool:
        """Whether so many answers wait for the client to take them that no further call of it shall begin.

        When that is over, ``drain`` lets those calls begin that were deferred.
        """
        return False

    @abc.abstractmethod
    def read_greeting(self) -> bool:
        """Read what comes before it is authenticated. False when the client was passed on elsewhere, with its socket.

        Raises:
            OSError: it is gone.
            ProtocolError: it makes no sense.
            Unauthenticated: it has another token.
        """

    @abc.abstractmethod
    def read(self) -> None:
        """Read what is there.

        Raises:
            OSError: the client is gone.
            ProtocolError: what came makes no sense.
        """

    @abc.abstractmethod
    def drain(self) -> None:
        """There is room in the socket again."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""

    def housekeep(self) -> None:  # noqa: B027 - most need none
        """Now and then: look after it.

        Raises:
            OSError: it is gone.
        """

    def refuse(self, error: Exception) -> bool:
        """It makes no sense, or has another token. Whether it is to be closed at once."""
        del error
        return True

    @abc.abstractmethod
    def try_flush(self) -> bool:
        """Write what is queued, without waiting. Whether all of it is on its way."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the client: its calls are cancelled."""


ConnectionFactory: TypeAlias = Callable[[socket.socket, Poller, int], ServedConnection | None]
"""Makes a connection of an accepted socket, or sends it away and returns None. It is also given where to wait for the
socket, and the event loop's thread."""


class Acceptor:
    """A socket where clients connect, and those of them who have not said yet who they are."""

    def __init__(
        self, listener: socket.socket, make_connection: ConnectionFactory, poller: Poller, most: int | None = None
    ) -> None:
        self.listener = listener
        self.make_connection = make_connection
        self.unauthenticated: ConnectionQuota[ServedConnection] = ConnectionQuota(
            most or max_unauthenticated(), timeout_s=_GREETING_TIMEOUT_S, crowded_timeout_s=_CROWDED_TIMEOUT_S
        )
        self.is_paused = True
        self._poller = poller
        self.resume()

    def resume(self) -> None:
        """Let those in who wait, unless too many are unauthenticated."""
        if self.is_paused and not self.unauthenticated.is_full:
            with contextlib.suppress(OSError):  # of what the system has too little now; housekeeping tries again
                self._poller.register(self.listener.fileno(), select.POLLIN)
                self.is_paused = False

    def pause(self) -> None:
        """Let those who want to connect wait until housekeeping, or until one of the others goes."""
        if not self.is_paused:
            self.is_paused = True
            self._poller.unregister(self.listener.fileno())

    def release(self, connection: ServedConnection) -> None:
        """It has said who it is, or has gone."""
        if connection in self.unauthenticated:
            self.unauthenticated.discard(connection)
            self.resume()
