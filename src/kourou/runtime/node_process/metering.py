"""How a node fares: methods that every node's server has for the command line, not listed with the node's own."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from kourou import cpython
from kourou.courier import Client, Server, address
from kourou.courier.client import traffic
from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.core.trace import Recording, recorder
from kourou.courier.serving.methods import MethodMetrics, is_hidden
from kourou.runtime.context.context import NodeContext, current_node_name, process_node_name
from kourou.runtime.interpreter.stacks import stacks_of_this_process
from kourou.runtime.model.reports import CallsReport, NodeDetails, NodeReport, TableReport
from kourou.runtime.node_process.debugger import listen
from kourou.waits import Activity, look

# A client's attributes may not begin with an underscore, and no attribute that somebody writes has a dot.
_ATTACH = "kourou.attach"
_METHODS = "kourou.methods"
_REPORT = "kourou.report"
_STACKS = "kourou.stacks"
_TRACE = "kourou.trace"
_USAGE = "kourou.usage"


def install(server: Server, context: NodeContext) -> None:
    """Let a node's server tell of calls that it has answered, of what its process takes, and where its threads are."""
    own = {_ATTACH, LIST_METHODS, _METHODS, _REPORT, _STACKS, _TRACE, _USAGE}
    server.bind(_METHODS, lambda: {name: one for name, one in server.metrics().items() if name not in own})
    tell(server, context)
    server.bind(_ATTACH, listen)
    server.bind(_STACKS, stacks_of_this_process)
    server.bind(_TRACE, _trace)
    server.bind(_USAGE, _usage)
    server.bind(LIST_METHODS, lambda: [name for name in server.list_methods() if name not in own])


def tell(
    server: Server,
    context: NodeContext,
    details: Callable[[], NodeDetails] = NodeDetails,
    tables: Callable[[], Iterable[TableReport]] = tuple,
) -> None:
    """Let a node's server tell of the node, each time anew; also what only such a node has to tell."""

    def report() -> NodeReport:
        return NodeReport(
            server=server.report(),
            activities=_activities().get(context.name, ()),
            calls=_calls(context.binding.clients),
            tables=tuple(tables()),
            details=details(),
        )

    server.bind(_REPORT, report)


def ask_attach(client: Client) -> Future[Any]:
    """Let a node listen for debuggers; the port, as a future."""
    future: Future[Any] = getattr(client.futures, _ATTACH)()
    return future


def ask_methods(client: Client) -> dict[str, MethodMetrics]:
    """What happened to each method of a node, by their names."""
    answer: dict[str, MethodMetrics] = getattr(client, _METHODS)()
    return answer


def ask_report(client: Client) -> NodeReport:
    """How a node fares, and for whom it waits; a busy one takes its time."""
    answer: NodeReport = getattr(client, _REPORT)()
    return answer


def ask_usage(client: Client) -> tuple[float, int]:
    """CPU seconds and bytes of memory of a node's process and all that it started; for nodes of other hosts."""
    answer: tuple[float, int] = getattr(client, _USAGE)()
    return answer


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


def _calls(clients: Iterable[Any]) -> tuple[CallsReport, ...]:
    """The calls of clients, by whom they are made of."""
    counted: dict[str, tuple[int, int]] = {}
    for client in list(clients):
        calls, unanswered = traffic(client)
        before = counted.get(address(client), (0, 0))
        counted[address(client)] = before[0] + calls, before[1] + unanswered
    return tuple(CallsReport(on=name, calls=one[0], unanswered=one[1]) for name, one in counted.items())


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
