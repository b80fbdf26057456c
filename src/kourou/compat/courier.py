"""Courier's names: ``courier.Server``, ``courier.Client``, ``courier.list_methods``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from kourou import courier
from kourou.compat.pybind11_abseil import StatusNotOk
from kourou.compat.targets import target_of
from kourou.courier import list_methods

__all__ = ["Client", "Server", "StatusNotOk", "list_methods"]

BELOW = {"python.client": "Client StatusNotOk list_methods translate_status", "python.py_server": "Server"}
ABSENT = {"translate_status": "errors are exceptions already, with code and message"}


class Client(courier.Client):
    """A client that knows its ``address``."""

    def __init__(self, server_address: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(target_of(server_address), *args, **kwargs)

    @property
    def address(self) -> str:
        """What it calls."""
        return courier.address(self)


class Server(courier.Server):
    """A server that knows its port before it is started: one that was free a moment ago."""

    def __init__(self, name: str | None = None, port: int | None = None, thread_pool_size: int | None = None) -> None:
        self._known_port = port or _free_port()
        super().__init__(name, self._known_port, thread_pool_size)

    @property
    def port(self) -> int:
        """Where it listens, or will."""
        return self._known_port

    @property
    def address(self) -> str:
        """``localhost:port``."""
        return f"localhost:{self._known_port}"

    def BindHandler(self, method_name: str, handler: Callable[..., Any], is_priority: bool = False) -> None:  # noqa: FBT001, FBT002, N802 - Courier's
        """As ``Bind``: a handler is a function."""
        self.bind(method_name, handler, is_priority)


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
