"""What holds up those who wait: circles, and the state of the nodes at the ends of their chains. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator

from kourou.runtime.diagnosis import node_states
from kourou.runtime.diagnosis.finding import Finding, Severity, counted, seconds
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.diagnosis.waiting import NOT_READY, STUCK_S, Edge, WaitGraph
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.reports import NodeReport, TableReport
from kourou.waits import PATIENCE_S

_MOST_DETAILS = 4
_MOST_ALIKE = 3
_ALL = 0.5  # of the other nodes: when more wait for one, it is the one that all wait for


def find(before: Snapshot, now: Snapshot) -> list[Finding]:
    """What is the matter with a live run, the worst first.

    Args:
        before: how it was some tenths of a second ago.
        now: how it is.
    """
    graph = WaitGraph(before, now)
    found = [
        *(_cycle(graph, circle) for circle in graph.cycles),
        *_silent(graph),
        *node_states.unplaced(now.status, now.taken_at),
        *_not_ready(graph),
        *_tables(before, graph),
    ]
    told = {name for one in found for name in one.nodes}
    for name, edges in graph.ends_of_chains().items():
        if name not in told and (report := now.reports.get(name)) is not None:
            found.append(_holding_up(graph, name, report, edges))
            told.add(name)
    found += node_states.breakpoints(now)
    found += [*_handlers(graph, told | graph.in_cycles), *node_states.stopping(now), *node_states.restarted(now)]
    found += [*node_states.uncalled(now), *node_states.only_servers(now)]
    rank = list(Severity)
    return sorted(_merged(found), key=lambda one: (-rank.index(one.severity), -(one.for_s or 0.0)))


def _merged(findings: list[Finding]) -> Iterator[Finding]:
    """The findings, with one in place of many that say the same of several nodes."""
    alike: dict[object, list[Finding]] = {}
    for number, one in enumerate(findings):
        says = re.sub(r"\d+", "#", one.text.replace(one.nodes[0], "…")) if len(one.nodes) == 1 else number
        alike.setdefault((one.kind, one.severity, says), []).append(one)
    for same in alike.values():
        if len(same) <= _MOST_ALIKE:
            yield from same
            continue
        first = max(same, key=lambda one: one.for_s or 0.0)
        nodes = tuple(dict.fromkeys(name for one in [first, *same] for name in one.nodes))
        waiters = tuple(dict.fromkeys(name for one in same for name in one.waiters))
        text = f"{first.text}; so it is with {len(nodes) - 1} others: {counted(nodes[1:])}"
        yield dataclasses.replace(first, nodes=nodes, waiters=waiters, text=text)


def _cycle(graph: WaitGraph, circle: tuple[Edge, ...]) -> Finding:
    names = [edge.who for edge in circle]
    for_s = min(edge.for_s for edge in circle)
    if len(set(names)) == 1:
        text = f"{names[0]} waits for itself, for {seconds(for_s)}"
    else:
        text = f"{' waits for '.join([*names, names[0]])}: a circle, for {seconds(for_s)}"
    return Finding(
        severity=Severity.ERROR,
        kind="cycle",
        nodes=tuple(dict.fromkeys(names)),
        waiters=tuple(dict.fromkeys(names)),
        text=text,
        for_s=for_s,
        ends="one of them gives up (timeout_s=…); it would not come about with client.futures, async methods, no lock "
        "held during a call, or more threads (thread_pool_size) where calls wait for one",
        details=tuple(line for edge in circle for line in _described(graph, edge)),
    )


def _described(graph: WaitGraph, edge: Edge) -> Iterator[str]:
    """A wait, and where the handler is that it is for, if that has begun and waits for no node that is known."""
    yield str(edge)
    report = graph.now.reports.get(edge.on)
    answering = graph.answering(edge.on, edge.what)
    if report is not None and report.server.queued and not answering:
        yield f"{edge.on} has no thread for {edge.what}: all {report.server.threads} are taken"
    for one in answering:
        if one.wait is None and one.where:
            yield f"{edge.on} answers {one.doing}, at {one.where}"


def _silent(graph: WaitGraph) -> Iterator[Finding]:
    for name in graph.now.silent:
        edges = graph.into(name)
        place = graph.now.places.get(name)
        at = (f"it is at {place}",) if place else ()
        waited_s = edges[0].for_s if edges else 0.0
        yield Finding(
            severity=Severity.ERROR if waited_s >= PATIENCE_S else Severity.WARNING,
            kind="silent",
            nodes=(name,),
            waiters=_waiters(edges),
            text=f"{name} does not answer: it is suspended, or runs code that holds the interpreter's lock",
            for_s=edges[0].for_s if edges else None,
            ends=f"that code returns; kourou debug {graph.now.status.run_id} {name} shows where it is",
            details=(*at, *_listed(edges)),
        )


def _not_ready(graph: WaitGraph) -> Iterator[Finding]:
    for node in graph.now.status.nodes:
        if not (node.state in NOT_READY or node.will_restart) or node.name in graph.in_cycles:
            continue
        if node.state is NodeState.PENDING and graph.now.status.waits_for:
            continue  # told of all in one
        begun = node.started_at or graph.now.status.started_at
        for_s = graph.now.taken_at - begun
        edges = graph.into(node.name)
        if for_s < STUCK_S or any(edge.who == node.name for edge in graph.edges):
            continue  # whom it waits for is told instead
        place = graph.now.places.get(node.name)
        yield Finding(
            severity=Severity.ERROR if for_s >= PATIENCE_S and edges else Severity.WARNING,
            kind="not_ready",
            nodes=(node.name,),
            waiters=_waiters(edges),
            text=f"{node.name} is not ready, for {seconds(for_s)}: {_stage(node)}",
            for_s=for_s,
            ends="it becomes ready",
            details=((f"it is at {place}",) if place else ()) + _listed(edges),
        )


def _stage(node: NodeRecord) -> str:
    if node.will_restart:
        return f"it ended ({node.exit.cause}) and is to be started again" if node.exit else "it is to be started again"
    if node.state is NodeState.PENDING:
        return "nothing has started it: its host is not connected, or nodes before it are not there"
    if node.pid is None:
        return "its process is not there yet" + (f", on {node.host}" if node.host else "")
    return "it imports what it needs, or is being constructed"


def _tables(before: Snapshot, graph: WaitGraph) -> Iterator[Finding]:
    for name, report in graph.now.reports.items():
        earlier = {table.name: table for table in before.tables(name)}
        for table in report.tables:
            past = earlier.get(table.name, table)
            moved = table.inserts != past.inserts or table.samples != past.samples
            if table.waits_s >= STUCK_S and not moved:
                yield _starved(graph, name, table)


def _starved(graph: WaitGraph, name: str, table: TableReport) -> Finding:
    what, missing = ("samples", "inserts") if table.waiting_samples else ("inserts", "samples")
    waiting = table.waiting_samples or table.waiting_inserts
    edges = tuple(edge for edge in graph.into(name) if repr(table.name) in edge.what) or graph.into(name)
    return Finding(
        severity=Severity.ERROR,
        kind="starved_table",
        nodes=(name,),
        waiters=_waiters(edges),
        text=f"table {table.name!r} of {name} is starved: {_count(waiting, what)} for {seconds(table.waits_s)}, "
        f"and nobody {missing}",
        for_s=table.waits_s,
        ends=f"{missing} into it" if missing == "inserts" else "samples from it",
        details=(
            table.blocked_on,
            *_listed(edges),
            *_others(graph, name, edges),
        ),
    )


def _count(waiting: int, what: str) -> str:
    return f"{waiting} {what} wait" if waiting > 1 else f"a {what[:-1]} waits".replace("a insert", "an insert")


def _others(graph: WaitGraph, name: str, edges: tuple[Edge, ...]) -> list[str]:
    """What the nodes do that could end a wait at this one, and do not wait there themselves."""
    waiters = _waiters(edges)
    others = [other for other, inputs in graph.now.inputs.items() if name in inputs and other not in waiters]
    if not others:
        return [f"no other node has a handle of {name}"]
    return [_doing(graph, other) for other in others[:_MOST_DETAILS]]


def _doing(graph: WaitGraph, name: str) -> str:
    """What a node does that might help and does not."""
    record, own = graph.now.record(name), [edge for edge in graph.edges if edge.who == name]
    if own:
        return str(own[0])
    state = f"is {str(record.state).lower()}" if record is not None else "is not known"
    report = graph.now.reports.get(name)
    if record is not None and record.state.ended and record.exit is not None:
        return f"{name} has ended ({record.exit.cause})"
    places = [one.where for one in report.activities if one.where] if report is not None else []
    return f"{name} {state}" + (f", at {places[0]}" if places else "")


def _holding_up(graph: WaitGraph, name: str, report: NodeReport, edges: tuple[Edge, ...]) -> Finding:
    """A node at which chains of waits end."""
    weights = [edge for edge in edges if edge.on == name and "of the weights" in edge.what]
    batch = next((one for one in report.server.batches if one.for_s >= STUCK_S), None)
    longest = edges[0].for_s if edges else None
    everybody = len(set(_waiters(edges))) > 1 and len(set(_waiters(edges))) > _ALL * (len(graph.now.status.nodes) - 1)
    whom = f"{counted(_waiters(edges))} wait{'s' if len(set(_waiters(edges))) == 1 else ''} for {name}"
    details = _listed(edges)
    limited = [one for one in report.tables if one.waiting_inserts or one.waiting_samples]
    if limited:  # a table at which nothing moves is starved, and told of before
        severity, kind, ends = Severity.NOTE, "limiter", "the other side goes on"
        text = f"{whom}: the limiter of table {limited[0].name!r} holds them back, as it should; it moves"
        details = (limited[0].blocked_on, *details)
    elif weights:
        holders = [one for one, inputs in graph.now.inputs.items() if name in inputs]
        starting = any((record := graph.now.record(one)) and record.state in NOT_READY for one in holders)
        severity, kind = Severity.NOTE if starting else Severity.WARNING, "weights"
        text = f"{whom}: nobody publishes what they wait for"
        ends, details = weights[0].ends, (*details, *_others(graph, name, edges))
    elif batch is not None:
        severity, kind = Severity.WARNING, "batch"
        text = f"{whom}: a batch of {batch.method} is not full, {batch.waiting} of {batch.size} calls"
        ends = f"{batch.size - batch.waiting} more calls, or its time-out in {max(0.0, batch.due_s):.0f} s"
    else:
        severity, kind, why, details = _running(graph, name, report, edges)
        text = f"{whom}: {why}"
        ends = edges[0].ends if edges else ""
    if everybody:
        text = f"{text}; it is the one that nearly all nodes wait for"
    return Finding(
        severity=severity,
        kind=kind,
        nodes=(name,),
        waiters=_waiters(edges),
        text=text,
        for_s=longest,
        ends=ends,
        details=details,
    )


def _running(
    graph: WaitGraph, name: str, report: NodeReport, edges: tuple[Edge, ...]
) -> tuple[Severity, str, str, tuple[str, ...]]:
    """What the handlers do that are waited for."""
    at_work = [one for one in report.activities if one.doing and one.wait is None and (one.for_s or 0.0) >= STUCK_S]
    places = Counter((one.doing, _at(graph, name, one.doing, one.where)) for one in at_work)
    details = tuple(
        f"{name} answers {doing}{f' (×{count})' if count > 1 else ''}, {place}"
        for (doing, place), count in places.most_common(_MOST_DETAILS)
    )
    if report.server.queued:
        why = f"all of its {report.server.threads} threads are taken, and {report.server.queued} calls wait for one"
        return Severity.WARNING, "pool", why, details + _listed(edges)
    idle = [one for one in at_work if not graph.computes(name, one) and graph.is_unusual(name, one.doing, one.for_s)]
    if idle:
        one = max(idle, key=lambda one: one.for_s or 0.0)
        severity = Severity.ERROR if (one.for_s or 0.0) >= PATIENCE_S else Severity.WARNING
        return (
            severity,
            "handler",
            f"{one.doing} has not returned in {seconds(one.for_s)}, and stands still",
            details + _listed(edges),
        )
    if at_work:
        computing = any(graph.computes(name, one) for one in at_work)
        one = max(at_work, key=lambda one: one.for_s or 0.0)
        why = f"{one.doing} {'computes' if computing else 'takes its time'}, {seconds(one.for_s)} so far"
        return Severity.NOTE, "slow", why, details + _listed(edges)
    methods = counted(edge.what for edge in edges if edge.on == name)
    severity = Severity.WARNING if edges[0].for_s >= PATIENCE_S else Severity.NOTE
    return severity, "unanswered", f"{methods} is not answered, and no thread of it is at it", _listed(edges)


def _at(graph: WaitGraph, name: str, method: str, where: str) -> str:
    computing = any(graph.computes(name, one) for one in graph.answering(name, method))
    place = f"at {where}" if where else "in code that is not the user's"
    return f"{'computing ' if computing else ''}{place}"


def _handlers(graph: WaitGraph, told: frozenset[str] | set[str]) -> Iterator[Finding]:
    """Handlers that do not return, though no node waits for them: whoever called them is none, or gave up."""
    for name, report in graph.now.reports.items():
        if name in told:
            continue
        still = [
            one
            for one in report.activities
            if one.doing
            and one.wait is None
            and (one.for_s or 0.0) >= STUCK_S
            and graph.is_unusual(name, one.doing, one.for_s)
            and not graph.computes(name, one)
        ]
        if still:
            one = max(still, key=lambda one: one.for_s or 0.0)
            yield Finding(
                severity=Severity.WARNING,
                kind="handler",
                nodes=(name,),
                text=f"{one.doing} of {name} has not returned, for {seconds(one.for_s)}, and stands still",
                for_s=one.for_s,
                ends="it returns",
                details=(f"it is at {one.where}",) if one.where else (),
            )


def _waiters(edges: tuple[Edge, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(edge.who for edge in edges))


def _listed(edges: tuple[Edge, ...]) -> tuple[str, ...]:
    lines = [str(edge) for edge in edges[:_MOST_DETAILS]]
    return (*lines, f"and {len(edges) - _MOST_DETAILS} more waits") if len(edges) > _MOST_DETAILS else tuple(lines)
