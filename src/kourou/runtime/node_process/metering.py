"""How a node fares: methods that every node's server has for the command line, not listed with the node's own."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kourou import cpython
from kourou.courier import Client, Server
from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.core.trace import Recording, recorder
from kourou.courier.serving.methods import is_hidden
from kourou.runtime.context.context import NodeContext, current_node_name, process_node_name
from kourou.runtime.interpreter.stacks import stacks_of_this_process
from kourou.runtime.model.reports import NodeDetails, NodeReport, TableReport
from kourou.runtime.node_process.debugger import listen
from kourou.waits import Activity, look

__all__ = [
    "ask_attach",
    "ask_calls",
    "ask_details",
    "ask_methods",
    "ask_report",
    "ask_stacks",
    "ask_tables",
    "ask_trace",
    "ask_usage",
    "install",
    "tell",
]

# A client's attributes may not begin with an underscore, and no attribute that somebody writes has a dot.
_ATTACH = "kourou.attach"
_CALLS = "kourou.calls"
_DETAILS = "kourou.details"
_METHODS = "kourou.methods"
_REPORT = "kourou.report"
_STACKS = "kourou.stacks"
_TABLES = "kourou.tables"
_TRACE = "kourou.trace"
_USAGE = "kourou.usage"


def install(server: Server, context: NodeContext) -> None:
    """Let a node's server tell of calls that it has answered, of what its process takes, and where its threads are."""
    own = {_ATTACH, LIST_METHODS, _CALLS, _DETAILS, _METHODS, _REPORT, _STACKS, _TABLES, _TRACE, _USAGE}

    def report() -> NodeReport:
        return NodeReport(server=server.report(), activities=_activities().get(context.name, ()))

    server.bind(_CALLS, lambda: server.report().answered)
    server.bind(_METHODS, lambda: {name: one for name, one in server.metrics().items() if name not in own})
    server.bind(_REPORT, report)
    tell(server, NodeDetails, list)
    server.bind(_ATTACH, listen)
    server.bind(_STACKS, stacks_of_this_process)
    server.bind(_TRACE, _trace)
    server.bind(_USAGE, _usage)
    server.bind(LIST_METHODS, lambda: [name for name in server.list_methods() if name not in own])


def tell(server: Server, details: Callable[[], NodeDetails], tables: Callable[[], list[TableReport]]) -> None:
    """Let a node's server tell more about itself, each time anew; its tables apart, for those who ask for no more."""
    server.bind(_DETAILS, details)
    server.bind(_TABLES, tables)


def ask_details(client: Client) -> Future[Any]:
    """What a node tells about itself, as a future of NodeDetails."""
    future: Future[Any] = getattr(client.futures, _DETAILS)()
    return future


def ask_calls(client: Client) -> Future[Any]:
    """How many calls a node has answered since it started, as a future: a busy node may take its time."""
    future: Future[Any] = getattr(client.futures, _CALLS)()
    return future


def ask_attach(client: Client) -> Future[Any]:
    """Let a node listen for debuggers; the port, as a future."""
    future: Future[Any] = getattr(client.futures, _ATTACH)()
    return future


def ask_methods(client: Client) -> Future[Any]:
    """What happened to each method of a node, as a future of MethodMetrics by their names."""
    future: Future[Any] = getattr(client.futures, _METHODS)()
    return future


def ask_report(client: Client) -> Future[Any]:
    """For whom a node waits, and who waits for it, as a future of a NodeReport."""
    future: Future[Any] = getattr(client.futures, _REPORT)()
    return future


def ask_tables(client: Client) -> Future[Any]:
    """The tables of a node, as a future of TableReports; none of most."""
    future: Future[Any] = getattr(client.futures, _TABLES)()
    return future


def ask_usage(client: Client) -> Future[Any]:
    """CPU seconds and bytes of memory of a node's process and all that it started; for nodes of other hosts."""
    future: Future[Any] = getattr(client.futures, _USAGE)()
    return future


def ask_trace(client: Client, *, at_most_s: float) -> Future[Any]:
    """Let a node's process record spans; the future of its clock. Or, for 0, no more: of a :class:`Recording`."""
    future: Future[Any] = getattr(client.futures, _TRACE)(at_most_s)
    return future


def ask_stacks(client: Client) -> Future[Any]:
    """The stacks of a node's threads, in its own words; for nodes of other hosts, which no signal reaches."""
    future: Future[Any] = getattr(client.futures, _STACKS)()
    return future


def _trace(at_most_s: float) -> int | Recording:
    if not at_most_s:
        return recorder.stop()
    recorder.node = current_node_name
    return recorder.start(at_most_s)


def _activities() -> dict[str, tuple[Activity, ...]]:
    """Node → what is done for it in this process; where many nodes are asked at once, one of them looks for all."""
    global _seen  # noqa: PLW0603 - of this process
    with _looking:
        seen_at, seen = _seen
        if time.monotonic() - seen_at > _FRESH_S:
            seen = {}
            for one in look(process_node_name()):
                if not is_hidden(one.doing):  # whoever asks is no part of the program
                    seen[one.who] = (*seen.get(one.who, ()), one)
            _seen = time.monotonic(), seen
        return seen


_FRESH_S = 0.2
_seen: tuple[float, dict[str, tuple[Activity, ...]]] = (-math.inf, {})
_looking = cpython.renewed_in_children(threading.Lock())


def _usage() -> tuple[float, int]:
    import psutil  # noqa: PLC0415 - asked for by people alone, and a node has to start quickly

    spent_s, memory_bytes = 0.0, 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times, figures = process.cpu_times(), process.memory_info()
            spent_s += times.user + times.system
            memory_bytes += figures.rss - getattr(figures, "shared", 0)
    return spent_s, memory_bytes
