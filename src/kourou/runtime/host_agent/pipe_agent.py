"""The agent: what a launcher starts on another host, over ssh, to have processes there.

It runs a service (a module's ``serve``), which owns a Supervisor like the launcher's own. It lives for as long as its
launcher does: when the connection closes, or is silent for too long, it ends all that it started, then itself.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator
from typing import Any, Protocol

from kourou.runtime.host_agent.pipe_wire import Wire
from kourou.runtime.host_agent.session import UNREADABLE


class Service(Protocol):
    """What an agent does for its launcher."""

    def handle(self, kind: str, *arguments: Any) -> None:
        """A message came; it must be handled quickly, since the next one waits."""

    def pause_output(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Much waits to be sent: tell nothing more that can wait; or go on. Must return quickly."""

    def close(self) -> None:
        """The launcher is gone: end everything."""


def main(entry: str, silence_s: float) -> None:
    """Be the agent at the end of standard input and output.

    Args:
        entry: the module whose ``serve(wire)`` makes the service; ``wire.send(*message)`` tells the launcher something.
        silence_s: without a word from the launcher for so long, it is taken for dead.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the launcher, and only then
    # What anything here prints must not get among the messages.
    wire = Wire(os.dup(0), os.dup(1))
    # "client address, client port, server address, server port"
    connection = os.environ.get("SSH_CONNECTION", "").split()
    if len(connection) > 2:  # noqa: PLR2004 - it has four fields
        wire.ends = connection[2], connection[0]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    service: Service = importlib.import_module(entry).serve(wire)
    wire.session.on_full = service.pause_output
    try:
        for kind, *arguments in _messages(wire, silence_s):
            if kind == UNREADABLE:
                raise arguments[0]
            service.handle(kind, *arguments)
    finally:
        service.close()
        wire.end(0.0)


def _messages(wire: Wire, silence_s: float) -> Iterator[tuple[Any, ...]]:
    """What the launcher says, until it is gone. An error of the system that who uses it meets is not this one's."""
    with contextlib.suppress(OSError):  # the connection broke
        wire.greet()
        while wire.is_readable(silence_s) and (messages := wire.receive()) is not None:
            yield from messages
            wire.show_life()  # what the launcher hears of it says that its messages are used
