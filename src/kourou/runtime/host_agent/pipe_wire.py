"""Messages between a launcher and its agent on another host, over the two pipes that ssh makes of its connection.

They are pickles: the other end was let in by ssh, as the same user. Nothing listens on either host, so there is nothing
for strangers to reach and no token to keep secret, and what crosses the network is as safe as ssh is. What is said, and
in which order, is a :class:`Session`'s, as over connections that agents dial; this one has a single connection.

Whoever sends does not wait for the network: a thread of the wire's own writes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from kourou import threads
from kourou.runtime.files.descriptors import is_readable
from kourou.runtime.host_agent.session import Sender, Session

PREAMBLE = b"\nkourou-agent-1\n"
"""What an agent says first. Whatever a host's login scripts print comes before it, and is skipped."""

_READ_BYTES = 1 << 20


class Wire(Sender):
    """One end. Any thread may send; one thread receives. Its owner calls :meth:`end` before it closes the descriptors.

    Args:
        read_fd: where messages come from.
        write_fd: where they go.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self.session = Session()
        self._news = threading.Event()
        self._ended = False
        self._shows_life = False  # as soon as may be
        self._every_s: float | None = None  # and then, whatever else is written
        self.ends: tuple[str, str] = ("", "")
        """The addresses of this end's host and of the other one's, where it crosses hosts."""
        self.run_id = ""
        """See AgentWire of the program's agent."""
        self._thread = threading.Thread(target=self._write_all, name="kourou-wire", daemon=True)
        threads.start(self._thread)

    def put(self, message: tuple[Any, ...], **how: bool) -> None:
        if not self._ended:
            self.session.put(message, **how)
            self._news.set()

    def send_bulk(self, *message: Any) -> None:
        """Like :meth:`send`, but wait until there is room: for threads that nobody else needs meanwhile."""
        self.session.wait_for_room()
        self.put(message)

    def show_life(self) -> None:
        """Let the other end hear something, and how much has arrived."""
        self._shows_life = True
        self._news.set()

    def keep_alive(self, every_s: float) -> None:
        """From now on show life every so many seconds."""
        self._every_s = every_s
        self.show_life()

    def end(self, timeout_s: float) -> bool:
        """Let nobody write any more, so that the descriptor can be closed: it may be another file's soon.

        Returns:
            False if the thread was still in a write after ``timeout_s`` seconds.
        """
        self._ended = True
        self._news.set()
        self.session.let_go()  # the thread may be in a write for long
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def greet(self) -> None:
        """Say the preamble."""
        self._write(PREAMBLE)

    def is_readable(self, timeout_s: float) -> bool:
        """Wait for a message, or for the end."""
        return is_readable(self._read_fd, timeout_s)

    def skip_preamble(self) -> bool:
        """Read to the end of the preamble; False when the other end closed before."""
        seen = b""
        while not seen.endswith(PREAMBLE):
            byte = os.read(self._read_fd, 1)
            if not byte:
                return False
            seen = (seen + byte)[-len(PREAMBLE) :]
        return True

    def receive(self) -> Iterator[tuple[Any, ...]] | None:
        """The messages that are whole now, perhaps none: see :meth:`Session.feed`; None when the other end closed."""
        data = os.read(self._read_fd, _READ_BYTES)
        return self._fed(data) if data else None

    def _fed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        yield from self.session.feed(data)
        self._news.set()  # the other end may wait to hear of it, or has made room

    def _write_all(self) -> None:
        shown_at = time.monotonic()
        with contextlib.suppress(OSError):  # the other end is gone, as whoever receives finds out
            while not self._ended:
                self._news.clear()
                left_s = None if self._every_s is None else shown_at + self._every_s - time.monotonic()
                if self._shows_life or (left_s is not None and left_s <= 0):
                    self._shows_life, shown_at = False, time.monotonic()
                    self._write(self.session.sign_of_life())
                elif (data := self.session.take()) is not None:
                    self._write(data)
                else:
                    self._news.wait(left_s)
        self._ended = True
        self.session.drop()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]
