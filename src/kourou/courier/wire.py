"""What a lane gives a client: a way to send frames, and one to receive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from kourou.courier.frames import Frame

__all__ = ["Deliver", "End", "Wire"]

Deliver: TypeAlias = Callable[[Sequence[Frame]], None]
End: TypeAlias = Callable[[Exception], None]


class Wire(Protocol):
    """One connection of one lane, seen from the client.

    A wire either *pulls* (``receive`` blocks until frames come, and one thread at a time calls it) or pushes
    (it calls the connection's ``deliver`` from threads of its own, and ``receive`` is never called).
    """

    lane: str
    pulls: bool

    def start(self, deliver: Deliver, end: End) -> None:
        """Frames may flow from now on. Wires that push call ``deliver`` for each arrival and ``end`` at the end."""

    def send(self, frame: Frame, *, caller_waits: bool = False) -> None:
        """Send, from any thread. When it returns, the frame's buffers may change.

        Args:
            frame: what to send.
            caller_waits: the calling thread has nothing to do until the answer comes, and has no deadline.

        Raises:
            OSError: the connection is gone.
        """

    def receive(self, timeout_s: float | None) -> Sequence[Frame]:
        """The next frames; empty when ``timeout_s`` seconds pass or ``close`` is called.

        Raises:
            OSError: the connection is gone.
            ProtocolError: what came makes no sense.
        """

    def close(self) -> None:
        """Let go. May be called from any thread, and more than once."""
