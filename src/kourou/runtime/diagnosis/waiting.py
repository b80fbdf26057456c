"""The graph of waits: who waits for whom, which waits are held up by others, and where they close to a circle."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from kourou.runtime.diagnosis.finding import seconds
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.model.records import NodeState
from kourou.waits import Activity

NOT_READY = frozenset({NodeState.PENDING, NodeState.STARTING})
STUCK_S = 2.0
"""A wait below this is nobody's concern."""
_BUSY = 0.03  # of a core: a thread that takes so much computes, or would if others let it
_UNUSUAL = 5.0  # times as long as a method takes on average


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """A wait of one node for another."""

    who: str
    doing: str
    """The method that the waiting thread answers; empty: it does the node's own work."""
    on: str
    what: str
    for_s: float
    ends: str
    where: str

    def __str__(self) -> str:
        doing = f" answers {self.doing} and" if self.doing else ""
        where = f", at {self.where}" if self.where else ""
        return f"{self.who}{doing} waits for {self.on} ({self.what}), {seconds(self.for_s)} so far{where}"


class WaitGraph:
    """The waits of a run that have lasted for some time.

    Args:
        before, now: two looks at it, some tenths of a second apart: who computes is seen by the difference.
    """

    def __init__(self, before: Snapshot, now: Snapshot) -> None:
        self.now = now
        self._elapsed_s = max(now.taken_at - before.taken_at, 1e-3)
        self._cpu_s = {
            (name, one.thread): one.cpu_s
            for name, report in before.reports.items()
            for one in report.activities
            if one.cpu_s is not None
        }
        nodes = {node.name for node in now.status.nodes}
        self.edges = tuple(edge for edge in self._all_edges() if edge.on in nodes)
        self._by_who: dict[str, list[Edge]] = {}
        for edge in self.edges:
            self._by_who.setdefault(edge.who, []).append(edge)
        self._onward: dict[Edge, tuple[Edge, ...]] = {}

    def _all_edges(self) -> Iterator[Edge]:
        for name, report in self.now.reports.items():
            for one in report.activities:
                wait = one.wait
                if wait is not None and wait.for_s is not None and wait.for_s >= STUCK_S:
                    yield Edge(
                        who=name,
                        doing=one.doing,
                        on=wait.on,
                        what=wait.what,
                        for_s=wait.for_s,
                        ends=wait.ends,
                        where=one.where,
                    )
        yield from self._of_starting()

    def _of_starting(self) -> Iterator[Edge]:
        """A node that calls another one while it is constructed can only wait for one that is not ready either."""
        unready = {node.name: node for node in self.now.status.nodes if node.state in NOT_READY}
        for name in self.now.calling & unready.keys():
            started_at = unready[name].started_at
            for other in self.now.inputs.get(name, ()):
                if other in unready and started_at is not None and self.now.taken_at - started_at >= STUCK_S:
                    yield Edge(
                        who=name,
                        doing="",
                        on=other,
                        what="to be ready",
                        for_s=self.now.taken_at - started_at,
                        ends=f"{other} becomes ready",
                        where=self.now.places.get(name, ""),
                    )

    def into(self, name: str) -> tuple[Edge, ...]:
        """The waits for a node, the longest first."""
        return tuple(sorted((edge for edge in self.edges if edge.on == name), key=lambda edge: -edge.for_s))

    def computes(self, name: str, activity: Activity) -> bool:
        """Whether a thread of a node uses the CPU, as far as that is known."""
        before = self._cpu_s.get((name, activity.thread))
        if activity.cpu_s is None or before is None:
            return False
        return activity.cpu_s - before > _BUSY * self._elapsed_s

    def answering(self, name: str, method: str) -> tuple[Activity, ...]:
        """What threads of a node do that answer this method."""
        report = self.now.reports.get(name)
        return () if report is None else tuple(one for one in report.activities if one.doing == method)

    def is_unusual(self, name: str, method: str, for_s: float | None) -> bool:
        """Whether a handler has taken far longer than it mostly does, or longer than a moment if it never returned."""
        report = self.now.reports.get(name)
        usual_s = report.server.usual_s.get(method, 0.0) if report is not None else 0.0
        return for_s is not None and for_s >= max(STUCK_S, _UNUSUAL * usual_s)

    def leads_on(self, edge: Edge) -> tuple[Edge, ...]:
        """The waits of a waited-for node that hold this one up: it cannot end before one of them does."""
        if edge not in self._onward:
            self._onward[edge] = self._leads_on(edge)
        return self._onward[edge]

    def _leads_on(self, edge: Edge) -> tuple[Edge, ...]:
        report = self.now.reports.get(edge.on)
        mine = self._by_who.get(edge.on, ())
        if report is None:  # it is not ready, and waits itself
            return tuple(mine)
        direct = tuple(other for other in mine if other.doing == edge.what)
        if direct:
            return direct
        answering = self.answering(edge.on, edge.what)
        if not answering:  # it waits for a thread: one of those that are taken by handlers which wait themselves
            taken = tuple(other for other in mine if other.doing)
            return taken if report.server.queued and len(taken) >= report.server.threads else ()
        if any(self.computes(edge.on, one) for one in answering):
            return ()
        if not any(self.is_unusual(edge.on, edge.what, one.for_s) for one in answering):
            return ()
        return tuple(mine)  # its handler stands still: for a lock, or for what another thread of the node would do

    @functools.cached_property
    def cycles(self) -> tuple[tuple[Edge, ...], ...]:
        """Waits that are held up by each other, each circle once; no two have a node in common."""
        found: list[tuple[Edge, ...]] = []
        seen: set[str] = set()
        for edge in sorted(self.edges, key=lambda edge: -edge.for_s):
            if edge.who in seen:
                continue
            circle = self._circle_from(edge)
            if circle is not None and not seen.intersection(one.who for one in circle):
                found.append(circle)
                seen.update(one.who for one in circle)
        return tuple(found)

    def _circle_from(self, first: Edge) -> tuple[Edge, ...] | None:
        """The shortest way from a wait back to itself, over the waits that hold it up."""
        ways: list[tuple[Edge, ...]] = [(first,)]
        reached: set[Edge] = set()
        while ways:
            onward = [(way, edge) for way in ways for edge in self.leads_on(way[-1])]
            ways = []
            for way, edge in onward:
                if edge == first:
                    return way
                if edge not in reached:
                    reached.add(edge)
                    ways.append((*way, edge))
        return None

    @functools.cached_property
    def in_cycles(self) -> frozenset[str]:
        """The nodes of all circles."""
        return frozenset(edge.who for circle in self.cycles for edge in circle)

    def ends_of_chains(self) -> dict[str, tuple[Edge, ...]]:
        """Nodes that are waited for, wait for nobody because of that, and are in no circle → the waits that end there.

        A wait for a node that waits itself counts for whom that one waits for.
        """
        ends: dict[str, dict[Edge, None]] = {}
        for edge in self.edges:
            passed, todo = {edge}, [edge]
            while todo:
                one = todo.pop()
                onward = self.leads_on(one)
                if not onward:
                    ends.setdefault(one.on, {})[edge] = None
                todo += [other for other in onward if other not in passed]
                passed.update(onward)
        return {name: tuple(edges) for name, edges in ends.items() if name not in self.in_cycles}
