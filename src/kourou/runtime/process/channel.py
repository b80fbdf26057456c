"""Messages between the supervisor and its zygote: JSON with file descriptors, over a UNIX socket pair.

Neither end ever waits for the other: both have one thread, and each must go on while the other is busy. What cannot be
sent yet waits in the sender's memory until the socket takes it.

A zygote goes through this for each of its forks, after which each page that it touches is copied: so little is called
here.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import Any

_decode = json.JSONDecoder().raw_decode  # json.loads looks for an encoding and for blanks around the message
_HEADER = struct.Struct("!II")  # bytes of the body, number of descriptors
_READ_BYTES = 1 << 16
_MOST_FDS = 64  # in one packet


class Channel:
    """One end of the socket pair. Not thread-safe: each end belongs to one thread.

    Its owner waits until it is readable, and writable while :attr:`wants_write`; then it calls :meth:`flush` and
    :meth:`receive`, and takes what came with :meth:`take`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        self._outbox: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._received = bytearray()
        self._received_fds: deque[int] = deque()
        _open.add(self)

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    @property
    def wants_write(self) -> bool:
        """There is more to send than the socket takes."""
        return bool(self._outbox)

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one message, as soon as that is possible; ``fds`` are closed when that is done.

        Nothing is raised if the other end is gone: whoever receives finds out.
        """
        # Environments may hold bytes that are no UTF-8; os.environ carries them as lone surrogates, and so does JSON.
        body = json.dumps(message).encode("ascii")
        self._outbox.append((memoryview(_HEADER.pack(len(body), len(fds)) + body), fds))
        if len(self._outbox) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what the socket takes."""
        try:
            while self._outbox:
                data, fds = self._outbox[0]
                sent = socket.send_fds(self.socket, [data], fds) if fds else self.socket.send(data)
                close_fds(fds)
                self._outbox[0] = data[sent:], ()
                if sent == len(data):
                    self._outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._drop_outbox()

    def receive(self) -> bool:
        """Read what has come; False once the other end is closed."""
        try:
            while True:
                data, fds, _, _ = socket.recv_fds(self.socket, _READ_BYTES, _MOST_FDS)
                self._received_fds.extend(fds)
                self._received += data
                if not data:
                    return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def take(self) -> tuple[dict[str, Any], tuple[int, ...]] | None:
        """The next message that has come, with its descriptors, which the caller closes; None: there is none (yet)."""
        if len(self._received) < _HEADER.size:
            return None
        size, count = _HEADER.unpack_from(self._received)
        end = _HEADER.size + size
        if len(self._received) < end:
            return None
        message: dict[str, Any] = _decode(self._received[_HEADER.size : end].decode("ascii"))[0]
        del self._received[:end]
        return message, tuple([self._received_fds.popleft() for _ in range(count)])

    def close(self) -> None:
        """Close this end, with all descriptors that are on their way."""
        self._drop_outbox()
        close_fds(self._received_fds)
        self._received_fds.clear()
        self.socket.close()
        _open.discard(self)

    def _drop_outbox(self) -> None:
        for _, fds in self._outbox:
            close_fds(fds)
        self._outbox.clear()


def close_fds(fds: Iterable[int]) -> None:
    """Close descriptors, those that are closed already included."""
    for fd in fds:
        try:  # noqa: SIM105 - see above
            os.close(fd)
        except OSError:
            pass


_open: set[Channel] = set()


def _close_in_child() -> None:
    """In a fork: were its copy left open, the other end would not see that this process died while the fork lives."""
    for channel in list(_open):
        channel.close()


os.register_at_fork(after_in_child=_close_in_child)
