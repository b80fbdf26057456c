"""Serving while a node lives: the gRPC server that every node hosts, and its announcement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kourou.courier import Server
from kourou.runtime import metering
from kourou.runtime.context import NodeContext, enter_node
from kourou.runtime.records import NodeState

__all__ = ["node_server", "serve"]


def node_server(context: NodeContext, **options: Any) -> Server:
    """The node's server, not started: it knows the run's token, and its handlers run as this node."""
    server = Server(
        name=context.name, call_context=lambda: enter_node(context), **{**context.server_options, **options}
    )
    metering.install(server)
    return server


@contextlib.contextmanager
def serve(context: NodeContext, server: Server | None = None) -> Iterator[Server]:
    """While entered, the node is READY and its server answers (health and reflection, if it has no methods)."""
    server = server or node_server(context)
    if not server.has_started:
        server.start()
    try:
        context.publish(state=NodeState.READY, endpoint=server.endpoint.to_json())
        yield server
    finally:
        server.stop()
