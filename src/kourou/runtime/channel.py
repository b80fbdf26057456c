"""Messages between the supervisor and its zygote: JSON with file descriptors, over a UNIX socket pair."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

__all__ = ["Channel"]

_HEADER = struct.Struct("!I")
_MOST_FDS = 8


class Channel:
    """One end of the socket pair. Not thread-safe: each end belongs to one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        _open.add(self)

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone.
        """
        # Environments may hold bytes that are no UTF-8; os.environ carries them as lone surrogates, and so does JSON.
        body = json.dumps(message).encode("ascii")
        header = _HEADER.pack(len(body))
        if fds:
            socket.send_fds(self.socket, [header], fds)
            self.socket.sendall(body)
        else:
            self.socket.sendall(header + body)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors; None when the other end closed. Blocks until it is whole."""
        try:
            head, fds, _, _ = socket.recv_fds(self.socket, _HEADER.size, _MOST_FDS)
            head += self._read(_HEADER.size - len(head)) if head else b""
            if len(head) < _HEADER.size:
                return None
            (size,) = _HEADER.unpack(head)
            body = self._read(size)
        except ConnectionError:
            return None
        return (json.loads(body), fds) if len(body) == size else None

    def _read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            part = self.socket.recv(min(size, 1 << 20))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
        _open.discard(self)


_open: set[Channel] = set()


def _close_in_child() -> None:
    """In a fork: were its copy left open, the other end would not see that this process died while the fork lives."""
    for channel in list(_open):
        channel.close()


os.register_at_fork(after_in_child=_close_in_child)
