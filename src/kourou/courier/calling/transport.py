"""What a lane gives a client: a way to send frames, and one to receive them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Protocol

from kourou.courier.wire.frames import Frame


class NotSentError(ConnectionError):
    """The connection is gone, and nothing of the frame was sent."""


class Receiver(Protocol):
    """The connection, as its transport sees it."""

    def deliver(self, frames: Sequence[Frame]) -> None:
        """These frames came."""

    def end(self, cause: Exception | None = None) -> None:
        """The connection is gone."""

    def read_available(self) -> bool:
        """Take in what is here already, if nobody else is doing so. False when another thread is at it."""
        ...

    def wake_background(self) -> None:
        """Let the background thread call ``flush`` soon. Takes no locks."""


class Owner(Receiver, Protocol):
    """The connection, as those that read it see it: callers' threads, and event loops."""

    alive: bool
    transport: Transport

    def flush(self) -> None:
        """Send what was put off."""

    def reading_stopped(self) -> None:
        """No caller reads any more."""


class Transport(abc.ABC):
    """One connection of one lane, seen from the client.

    It either *pulls*, and one thread at a time calls ``poll`` and ``read``; or it pushes, and calls the receiver's
    ``deliver`` from threads of its own.

    Attributes:
        lane: its name: ``inproc``, ``local`` or ``grpc``.
        pulls: callers read.
        idle_s: seconds of silence until somebody reads though no answer is due, and calls ``check``; None for never.
    """

    lane: str
    pulls = True
    idle_s: float | None = None

    @property
    def descriptors(self) -> Sequence[int]:
        """What to look at for something to ``read``; none for one that pushes."""
        return ()

    @property
    def has_buffered(self) -> bool:
        """Whether ``read`` has something that the descriptors do not show."""
        return False

    @property
    def peer_closed(self) -> bool:
        """Whether the server has closed the connection, though sending would not tell. False where sending tells."""
        return False

    @abc.abstractmethod
    def start(self, receiver: Receiver) -> None:
        """Frames may flow from now on."""

    @abc.abstractmethod
    def send(self, frame: Frame, *, caller_waits: bool = False, may_gather: bool = False) -> None:
        """Send, from any thread. When it returns, the frame's buffers may change.

        Args:
            frame: what to send.
            caller_waits: the calling thread has nothing to do until the answer comes.
            may_gather: the frame may be put off until there are more, or until ``flush``.

        Raises:
            NotSentError: the connection is gone, and the frame was not sent.
            OSError: the connection is gone, and who knows what arrived.
        """

    def flush(self) -> None:  # noqa: B027 - most put nothing off
        """Send what was put off until the next frame.

        Raises:
            OSError: the connection is gone.
        """

    @abc.abstractmethod
    def poll(self, timeout_s: float | None) -> bool:
        """Wait until there is something to read, or ``timeout_s`` seconds pass. May be interrupted by Ctrl-C."""

    @abc.abstractmethod
    def read(self) -> Sequence[Frame]:
        """The next frames, after ``poll`` said that there are some. Nothing may interrupt it halfway.

        Raises:
            OSError: the connection is gone.
            ProtocolError: what came makes no sense.
        """

    def check(self) -> None:  # noqa: B027 - see there
        """Whether the server's host is still there; a server of this host always is.

        Raises:
            OSError: it has been silent for too long, although it was asked.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go. May be called from any thread, and more than once."""
