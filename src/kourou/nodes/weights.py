"""Nodes that hold weights: published once, read by all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from kourou import courier
from kourou.errors import GraphError
from kourou.runtime.context.context import NodeContext, current_node
from kourou.runtime.graph.checkpoints import Checkpoints
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.node import Node
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.model.reports import NodeDetails
from kourou.runtime.node_process import metering
from kourou.runtime.node_process.checkpointing import keeping_object
from kourou.runtime.node_process.serving import node_server
from kourou.runtime.waiting.node_target import NodeTarget

if TYPE_CHECKING:
    from kourou.weights import Client
    from kourou.weights.readers import WeightsReport

_IMPORTS = ("numpy", "kourou.weights")


class WeightsHandle(Handle["Client"]):
    """A promise of a :class:`kourou.weights.Client` of a WeightsNode."""

    @property
    def imports(self) -> tuple[str, ...]:
        """The client's."""
        return _IMPORTS

    def make_client(self, target: NodeTarget) -> Client:
        """A client of the node; it finds the node again when that was restarted."""
        from kourou import weights  # noqa: PLC0415 - a launcher need not load it

        node, relaying = current_node(), None
        if node is not None and (folder := node.server_options.get("socket_dir")):
            options = dict(node.server_options)
            relaying = weights.Relaying(folder=folder, serve=lambda: courier.Server(f"relay in {node.name}", **options))
        client = weights.Client(target, caller=None if node is None else node.name, relaying=relaying)
        target.binding.clients.add(client.calls)
        return client


class WeightsNode(Node):
    """Holds the weights that learners publish and others read, in shared memory of its host.

    Learners call ``weights.publisher().publish(state_dict, version=step)``, readers ``weights.subscriber().latest()``.
    On the node's host neither of them calls the node once it knows where the memory is; on other hosts each copy goes
    over the network. The memory is the node's, so it outlives publishers that end, and is gone with the node.

    Args:
        keep: versions of each name that can be read at any time, the latest included. There is memory for one more.
        checkpoint: a folder on the node's host for the last version of each name: written when the node ends (and by
            the clock of its group's :class:`kourou.Checkpoints`), and published again when it starts, as old as it is.
            None: in the run's folder if the group has such, else nowhere.

    Raises:
        GraphError: ``keep`` is below 1.
    """

    def __init__(self, keep: int = 2, *, checkpoint: str | os.PathLike[str] | None = None) -> None:
        if type(keep) is not int or keep < 1:
            raise GraphError(f"WeightsNode: keep is a number of versions from 1 on, not {keep!r}")
        self._keep = keep
        self._checkpoint = None if checkpoint is None else os.fspath(checkpoint)

    @property
    def serves_only(self) -> bool:
        return True

    @property
    def imports(self) -> tuple[str, ...]:
        """The server's."""
        return _IMPORTS

    def create_handle(self) -> WeightsHandle:
        return WeightsHandle(self)

    def run(self, context: NodeContext) -> None:
        """Serve until nobody needs it any more."""
        from kourou.weights import Server  # noqa: PLC0415 - see above

        transport = node_server(context)
        with shielded():
            server = Server(keep=self._keep, transport=transport, start=False)
        try:
            with contextlib.ExitStack() as stack:
                kept: Callable[[], list[str]] = list
                if self._checkpoint_policy is not None or self._checkpoint is not None:
                    when = self._checkpoint_policy or Checkpoints()
                    keeping = keeping_object(context, when, server, transport, folder=self._checkpoint)
                    kept = stack.enter_context(keeping)
                metering.tell(transport, context, lambda: _details(server.reports(), kept()))
                with shielded():
                    server.start()
                context.publish(serves_only=True)
                context.stop.register(server.cancel_waits)
                context.stop.released.wait()
        finally:
            with shielded():
                context.stop.unregister(server.cancel_waits)
                server.stop()


def _details(reports: list[WeightsReport], kept: list[str]) -> NodeDetails:
    lines = (line for report in reports for line in report.lines())
    return NodeDetails(lines=(*lines, *kept), weights=tuple(reports))
