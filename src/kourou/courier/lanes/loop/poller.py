"""Waiting for many sockets at once: epoll, and what stands in for it where there is none."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import Protocol

__all__ = ["Readiness", "readiness"]


class Readiness(Protocol):
    """What ``select.epoll`` and ``select.poll`` have in common; descriptors are watched for POLLIN and POLLOUT."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch one more."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch it for something else."""

    def unregister(self, fd: int, /) -> None:
        """Watch it no more."""

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait for so many seconds (-1: for ever): what is ready, and for what. May come back early."""
        ...

    def close(self) -> None:
        """Let go of it."""


class _Poll:
    """The portable one, whose cost grows with the number of sockets.

    A thread that waits in it does not see what another one changes, so it is woken to begin anew.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        self._poll.register(self._alarm, select.POLLIN)

    def register(self, fd: int, eventmask: int, /) -> None:
        """See ``Readiness``."""
        self._poll.register(fd, eventmask)
        self._wake()

    def modify(self, fd: int, eventmask: int, /) -> None:
        """See ``Readiness``."""
        self._poll.modify(fd, eventmask)
        self._wake()

    def unregister(self, fd: int, /) -> None:
        """See ``Readiness``."""
        with contextlib.suppress(KeyError):  # which epoll does not raise
            self._poll.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """See ``Readiness``; may come back early, with nothing."""
        events = self._poll.poll(timeout * 1e3 if timeout >= 0 else None)
        alarm = self._alarm.fileno()
        if all(descriptor != alarm for descriptor, _ in events):
            return events
        with contextlib.suppress(BlockingIOError):
            self._alarm.recv(1 << 16)
        return [event for event in events if event[0] != alarm]

    def close(self) -> None:
        """See ``Readiness``."""
        self._alarm.close()
        self._bell.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is about to wake
            self._bell.send(b"!")


def readiness() -> Readiness:
    """A new one."""
    if sys.platform == "linux":
        return select.epoll()
    return _Poll()
