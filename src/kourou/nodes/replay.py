"""Nodes that are replay servers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import errors
from kourou.nodes.colocation import MultiProcessingColocation
from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.checkpoints import Checkpoints
from kourou.runtime.graph.handles import Handle, maybe_dereference
from kourou.runtime.graph.node import Node
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.interpreter.user_code import name_of
from kourou.runtime.model.names import child_name
from kourou.runtime.model.reports import NodeDetails, TableReport
from kourou.runtime.node_process import metering
from kourou.runtime.node_process.checkpointing import Keeper, folder_in_run, say_loaded
from kourou.runtime.node_process.serving import node_server
from kourou.runtime.waiting.node_target import NodeTarget
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.replay import Checkpointer, Client, Compression, GroupClient, Table, TableInfo

TablesFn = Callable[[], "Sequence[Table]"]
CheckpointerFn = Callable[[], "Checkpointer"]
_IMPORTS = ("numpy", "kourou.replay")


class ReplayHandle(Handle["Client"]):
    """A promise of a :class:`kourou.replay.Client` of a ReplayNode."""

    def __init__(self, node: Node, compression: Compression | str | None = None) -> None:
        super().__init__(node)
        self._compression = compression

    @property
    def imports(self) -> tuple[str, ...]:
        """The client's."""
        return _IMPORTS

    def make_client(self, target: NodeTarget) -> Client:
        """A client of the node's server; it finds the server again when the node was restarted."""
        return _client(target, self._compression)


class ReplayNode(Node):
    """A replay server as a node of a program.

    Its tables, and the checkpointer, are made in the node. The latest checkpoint is read before the node is READY, so
    a node that is restarted (``on_failure=lp.Restart()``) goes on from there. A checkpoint is written every so many
    minutes, by a clock that does not drift, and when the program stops, after the nodes that have work of their own
    have ended. One that cannot be written is logged, and tried again at its next time.

    Once the program stops, nobody waits for a rate limiter any more: calls that would end with ``CallCancelled``, and
    iterations of samplers just end.

    Args:
        tables_fn: makes the tables.
        checkpoint_ctor: makes a :class:`kourou.replay.Checkpointer`; None for a server without checkpoints.
        checkpoint_time_delta_minutes: between two checkpoints; None for none but at the end, and when a client asks.
        compression: of what travels to and from clients on other hosts; see :class:`kourou.replay.Client`.
        spill_dir: where data lies on a disk; see :class:`kourou.replay.Server`.

    Raises:
        TypeError: something to be called is no function.
        GraphError: the time is not above 0, or there is one and no checkpointer.
    """

    def __init__(
        self,
        tables_fn: TablesFn,
        checkpoint_ctor: CheckpointerFn | None = None,
        checkpoint_time_delta_minutes: float | None = None,
        *,
        compression: Compression | str | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        _check(type(self).__name__, tables_fn, checkpoint_ctor, checkpoint_time_delta_minutes)
        self._tables_fn = tables_fn
        self._checkpoint_ctor = checkpoint_ctor
        self._compression = compression
        self._spill_dir = spill_dir
        self._period_s = None if checkpoint_time_delta_minutes is None else 60.0 * checkpoint_time_delta_minutes

    @property
    def serves_only(self) -> bool:
        return True

    @property
    def imports(self) -> tuple[str, ...]:
        """The tables'."""
        return _IMPORTS

    def arguments(self) -> Mapping[str, Any]:
        """What makes the tables and the checkpointer."""
        return {"tables_fn": self._tables_fn, "checkpoint_ctor": self._checkpoint_ctor}

    def describe(self) -> str:
        """``ReplayNode(make_tables)``."""
        return f"{type(self).__name__}({name_of(self._tables_fn)})"

    def create_handle(self) -> ReplayHandle:
        return ReplayHandle(self, self._compression)

    def run(self, context: NodeContext) -> None:
        """Serve until nobody needs it any more."""
        from kourou.replay import Server  # noqa: PLC0415 - needs NumPy, which a launcher may do without

        tables_fn, checkpoint_ctor = maybe_dereference((self._tables_fn, self._checkpoint_ctor))
        checkpointer = None if checkpoint_ctor is None else checkpoint_ctor()
        when = self._checkpoint_policy
        if checkpointer is None and when is not None:
            checkpointer = _checkpointer(context, when.keep)
        when = when or Checkpoints()
        if self._period_s is not None:
            when = dataclasses.replace(when, every_s=self._period_s)
        tables = tables_fn()
        transport = node_server(context)
        with shielded():
            server = Server(
                tables,
                checkpointer=checkpointer,
                transport=transport,
                spill_dir=self._spill_dir,
                fresh=context.attempt > 1 and when.on_restart == "fresh",
            )
        if checkpointer is not None and checkpointer.loaded is not None:
            say_loaded(context, checkpointer.loaded)
        try:
            with contextlib.ExitStack() as stack:
                kept: Callable[[], list[str]] = list
                if checkpointer is not None:
                    write = lambda: Path(server.checkpoint())  # noqa: E731 - a checkpoint of all tables
                    kept = stack.enter_context(Keeper(context, when, write, loaded=checkpointer.loaded)).lines
                metering.tell(
                    transport,
                    context,
                    lambda: NodeDetails(
                        lines=(*(line for info in server.info().values() for line in info.lines()), *kept())
                    ),
                    lambda: [_report(info) for info in server.info().values()],
                )
                context.publish(serves_only=True)
                context.stop.register(server.cancel_waits)
                context.stop.released.wait()
        finally:
            with shielded():
                context.stop.unregister(server.cancel_waits)
                server.stop()


class ReverbNode(ReplayNode):
    """A ReplayNode whose first argument has the name that it has in Launchpad; all others are those of ReplayNode."""

    def __init__(
        self,
        priority_tables_fn: TablesFn,
        checkpoint_ctor: CheckpointerFn | None = None,
        checkpoint_time_delta_minutes: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(priority_tables_fn, checkpoint_ctor, checkpoint_time_delta_minutes, **options)


class ReplayGroupHandle(Handle["GroupClient"]):
    """A promise of a :class:`kourou.replay.GroupClient` of the servers of a ReplayGroup."""

    def __init__(self, node: ReplayGroup, size: int, compression: Compression | str | None) -> None:
        super().__init__(node)
        self._size = size
        self._compression = compression

    @property
    def imports(self) -> tuple[str, ...]:
        """The clients'."""
        return _IMPORTS

    def make_client(self, target: NodeTarget) -> GroupClient:
        """One client for all the servers."""
        from kourou.replay import GroupClient  # noqa: PLC0415 - needs NumPy

        names = [child_name(target.name, place) for place in range(self._size)]
        return GroupClient([_client(dataclasses.replace(target, name=name), self._compression) for name in names])


class ReplayGroup(MultiProcessingColocation):
    """Tables spread over several replay servers, each a process, that one client reaches as if they were one.

    A table is in one server as a whole, so that its limiter and its selectors mean what they always mean: of the tables
    that ``tables_fn`` makes, server i has the i-th, the (i + n)-th, and so on.

    Args:
        n: servers; not more than there are tables.
        tables_fn: makes all tables; called in each of the servers.
        checkpoint_ctor: as for ReplayNode; each server writes to a folder of its own below that one.
        checkpoint_time_delta_minutes: as for ReplayNode.
        num_retries_on_failure: how often each server is started again after a failure.
        compression, spill_dir: as for ReplayNode.

    Raises:
        TypeError, GraphError: as for ReplayNode; there is not even one server.
    """

    def __init__(
        self,
        n: int,
        tables_fn: TablesFn,
        checkpoint_ctor: CheckpointerFn | None = None,
        checkpoint_time_delta_minutes: float | None = None,
        *,
        num_retries_on_failure: int = 0,
        compression: Compression | str | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if n < 1:
            raise errors.GraphError(f"a ReplayGroup has at least one server, not {shown(n)}")
        _check(type(self).__name__, tables_fn, checkpoint_ctor, checkpoint_time_delta_minutes)
        servers = [
            ReplayNode(
                _Share(tables_fn, place, n),
                None if checkpoint_ctor is None else functools.partial(_below, checkpoint_ctor, place),
                checkpoint_time_delta_minutes,
                spill_dir=spill_dir,
            )
            for place in range(n)
        ]
        super().__init__(servers, num_retries_on_failure)
        self._tables_fn = tables_fn
        self._size = n
        self._compression = compression

    def describe(self) -> str:
        """``ReplayGroup(4 × make_tables)``."""
        return f"{type(self).__name__}({self._size} × {name_of(self._tables_fn)})"

    def create_handle(self) -> ReplayGroupHandle:
        """A promise of a client of all the servers."""
        return ReplayGroupHandle(self, self._size, self._compression)


def _checkpointer(context: NodeContext, keep: int) -> Checkpointer:
    """What writes checkpoints to the run's folder."""
    from kourou.replay import Checkpointer  # noqa: PLC0415 - needs NumPy

    return Checkpointer(folder_in_run(context), keep_latest=keep)


class _Share:
    """The tables of one server of a group."""

    def __init__(self, tables_fn: TablesFn, place: int, servers: int) -> None:
        self.func = tables_fn
        self._place = place
        self._servers = servers

    def __call__(self) -> Sequence[Table]:
        tables = list(self.func())
        if len(tables) < self._servers:
            raise errors.GraphError(f"a ReplayGroup of {self._servers} servers has but {len(tables)} tables")
        return tables[self._place :: self._servers]


def _below(checkpoint_ctor: CheckpointerFn, place: int) -> Checkpointer:
    """The checkpointer of one server of a group."""
    return checkpoint_ctor().below(f"server-{place}")


def _report(info: TableInfo) -> TableReport:
    return TableReport(**{field.name: getattr(info, field.name) for field in dataclasses.fields(TableReport)})


def _check(
    kind: str, tables_fn: TablesFn, checkpoint_ctor: CheckpointerFn | None, period_minutes: float | None
) -> None:
    if not callable(tables_fn):
        raise TypeError(f"{kind} takes a function that makes tables, got {shown(tables_fn)}")
    if checkpoint_ctor is not None and not callable(checkpoint_ctor):
        raise TypeError(f"{kind}: checkpoint_ctor makes a kourou.replay.Checkpointer, got {shown(checkpoint_ctor)}")
    if period_minutes is not None and not period_minutes > 0:
        raise errors.GraphError(f"{kind}: checkpoint_time_delta_minutes is above 0, got {shown(period_minutes)}")
    if period_minutes is not None and checkpoint_ctor is None:
        raise errors.GraphError(f"{kind}: checkpoint_time_delta_minutes needs a checkpoint_ctor")


def _client(target: NodeTarget, compression: Compression | str | None) -> Client:
    from kourou.replay import Client  # noqa: PLC0415 - needs NumPy

    client = Client(target, compression=compression)
    target.binding.clients.add(client.calls)
    return client
