"""The lane between processes of one host, server side."""

from __future__ import annotations

import contextlib
import functools
import os
import socket

from kourou.courier.lanes.local import socket_file
from kourou.courier.lanes.local.connection import LocalConnection
from kourou.courier.lanes.loop.event_loop import EventLoop
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.serving.dispatcher import Dispatcher


class LocalListener:
    """Listens on a UNIX socket.

    Args:
        folder: where the socket is made; it goes with its run. None: this user's own, which stays, and is rid of the
            sockets of killed servers once by each process that serves there.
    """

    def __init__(self, loop: EventLoop, dispatcher: Dispatcher, token: str, folder: str | None) -> None:
        self._dispatcher = dispatcher
        self._token = token.encode()
        if folder is None:
            folder = socket_file.default_folder()
            _sweep_once(folder)
        listener, self.path = socket_file.listen(folder)
        loop.listen(listener, self._make_connection)

    def stop(self) -> None:
        """Let nobody find it any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - a string, as the kernel has it

    def _make_connection(self, accepted: socket.socket, poller: Poller, loop_thread: int) -> LocalConnection | None:
        if not socket_file.same_user(accepted):
            accepted.close()
            return None
        return LocalConnection(accepted, poller, loop_thread, self._dispatcher, self._token)


@functools.cache
def _sweep_once(folder: str) -> None:
    socket_file.sweep(folder)
