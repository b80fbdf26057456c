"""How busy a node is: a method that every node's server has for ``kourou status``, not listed with the node's own."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from kourou.courier import Client, Server
from kourou.courier.client import LIST_METHODS

__all__ = ["ask_calls", "install"]

# A client's attributes may not begin with an underscore, and no attribute that somebody writes has a dot.
_CALLS = "kourou.calls"


def install(server: Server) -> None:
    """Let a node's server tell how many calls it has answered."""
    own = {LIST_METHODS, _CALLS}

    def calls() -> int:
        return sum(metrics.calls for name, metrics in server.metrics().items() if name not in own)

    server.bind(_CALLS, calls)
    server.bind(LIST_METHODS, lambda: [name for name in server.list_methods() if name not in own])


def ask_calls(client: Client) -> Future[Any]:
    """How many calls a node has answered since it started, as a future: a busy node may take its time."""
    future: Future[Any] = getattr(client.futures, _CALLS)()
    return future
