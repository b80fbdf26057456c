"""Waiting for many sockets at once: epoll, and what stands in for it where there is none."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import Protocol

from kourou.errors import LaunchError


class Poller(Protocol):
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


class _SelectPoll:
    """The portable one, whose cost grows with the number of sockets.

    A thread that waits in it does not see what another one changes, so it is woken to begin anew.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._wakeup_r, self._wakeup_w = socket.socketpair()
        self._wakeup_r.setblocking(False)
        self._wakeup_w.setblocking(False)
        self._poll.register(self._wakeup_r, select.POLLIN)

    def register(self, fd: int, eventmask: int, /) -> None:
        self._poll.register(fd, eventmask)
        self._wake()

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._poll.modify(fd, eventmask)
        self._wake()

    def unregister(self, fd: int, /) -> None:
        with contextlib.suppress(KeyError):  # which epoll does not raise
            self._poll.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """See ``Poller``; may come back early, with nothing."""
        events = self._poll.poll(timeout * 1e3 if timeout >= 0 else None)
        wakeup = self._wakeup_r.fileno()
        if all(descriptor != wakeup for descriptor, _ in events):
            return events
        with contextlib.suppress(BlockingIOError):
            self._wakeup_r.recv(1 << 16)
        return [event for event in events if event[0] != wakeup]

    def close(self) -> None:
        self._wakeup_r.close()
        self._wakeup_w.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is about to wake
            self._wakeup_w.send(b"!")


def new_poller() -> Poller:
    """A new one.

    Raises:
        LaunchError: threads and sockets are not the system's here.
    """
    if sys.platform == "linux":
        if not hasattr(select, "epoll"):
            raise LaunchError(
                "threads and sockets are not the system's in this process (gevent's or eventlet's monkey patching?): "
                "use kourou in one that is not patched"
            )
        return select.epoll()
    return _SelectPoll()
