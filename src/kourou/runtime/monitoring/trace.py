"""What the nodes of a live run do for some seconds, as one trace that Perfetto and chrome://tracing open.

Each node is a process of the trace, and a call an arrow from its caller to its handler.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, NamedTuple

from kourou.courier.core.trace import Recording, Span
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.node_process.metering import ask_trace

_ANSWER_S = 5.0
_MORE_S = 60.0
_LAUNCHER = "launcher"
_OWN = "kourou."  # in the names of kourou's own methods
_SUBMIT_NS = 100  # of a call by a future, that an arrow has a slice to begin in
_LIFE = 0  # the thread of a node's track that shows its states


class Traced(NamedTuple):
    """What the processes of a run recorded."""

    recordings: list[tuple[Recording, int]]
    """With by how many nanoseconds the clock of that host is ahead of ours."""
    silent: list[str]
    """Nodes that did not answer."""


class LifeEvent(NamedTuple):
    """A change of a node's state."""

    node: str
    state: str
    time_s: float


def record(run: RemoteRun, nodes: Iterable[NodeRecord], pause: Callable[[], None], *, at_most_s: float) -> Traced:
    """Let nodes record spans.

    Args:
        run: the run.
        nodes: those that are asked, of which some may not serve (yet).
        pause: returns when there is enough.
        at_most_s: so long it takes; then nodes end by themselves, once they had some time more.
    """
    serving = [node for node in nodes if node.serves]
    names = [node.name for node in serving]
    far = {node.name for node in serving if node.host not in {socket.gethostname(), "localhost"}}
    asked_ns = time.time_ns()
    ahead: dict[str, int] = {}

    def compare(name: str, clock: Future[int]) -> None:
        if name in far and clock.exception() is None:  # those of this host have its clock
            ahead[name] = clock.result() - (asked_ns + time.time_ns()) // 2

    begun = {ask_trace(run.client(name), at_most_s=at_most_s + _MORE_S): name for name in names}
    for future, name in begun.items():
        future.add_done_callback(functools.partial(compare, name))
    wait(begun, _ANSWER_S)
    pause()
    ended = {ask_trace(run.client(name), at_most_s=0): name for name in names}
    done, late = wait(ended, _ANSWER_S)
    heard = [future for future in done if future.exception() is None]
    silent = [ended[future] for future in (*late, *done) if future not in heard]
    return Traced([(future.result(), ahead.get(ended[future], 0)) for future in heard], silent)


def lives_of(found: FoundRun) -> list[LifeEvent]:
    """The states of a run's nodes, as its folder tells of them."""
    return [LifeEvent(e["name"], e["state"], e["time"]) for e in found.events() if e["event"] == "node"]


def trace_events(traced: Traced, lives: Iterable[LifeEvent]) -> list[dict[str, Any]]:
    """The events of a trace in Chrome's format."""
    lives = list(lives)
    spans = spans_of(traced)
    names = dict.fromkeys([*(life.node for life in lives), *(span.node or _LAUNCHER for span, _ in spans)])
    places = {name: place for place, name in enumerate(names, start=1)}
    events = [_named("process_name", place, None, name) for name, place in places.items()]
    events += [_named("thread_name", place, _LIFE, "state") for place in places.values()]
    tracks = _tracks([span for span, _ in spans])
    threads = {
        (places[span.node or _LAUNCHER], track): known.get(span.thread, "")
        for (span, known), track in zip(spans, tracks, strict=True)
    }
    events += [_named("thread_name", place, thread, name) for (place, thread), name in threads.items()]
    handled = {span.call_id for span, _ in spans if span.kind == "handler"}
    called = {span.call_id for span, _ in spans if span.kind != "handler"}
    both = handled & called
    for (span, _), track in zip(spans, tracks, strict=True):
        where = {"pid": places[span.node or _LAUNCHER], "tid": track}
        events += _of_span(span, where, arrow=span.call_id in both)
    events += _of_lives(lives, places)
    return _since_the_first(events)


def _since_the_first(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events by a clock that begins with them: a float has no room for the nanoseconds since 1970."""
    first = min((event["ts"] for event in events if "ts" in event), default=0)
    for event in events:
        if "ts" in event:
            event["ts"] = (event["ts"] - first) / 1e3
        if "dur" in event:
            event["dur"] /= 1e3
    return events


def _tracks(spans: Sequence[Span]) -> list[int]:
    """The thread's number of each span; another one where it would overlap with others of its thread.

    A handler that waits for a table gives its thread back meanwhile, and a viewer shows only what is within each other.
    """
    tracks = [span.thread & 0x7FFFFFFF or 1 for span in spans]  # Perfetto's thread numbers have 32 bits
    ends: dict[tuple[str, int], list[list[int]]] = {}  # of each of a thread's tracks, of what is open there
    for place in sorted(range(len(spans)), key=lambda at: (spans[at].start_ns, -spans[at].duration_ns)):
        span = spans[place]
        if span.kind == "future":
            continue
        end, beside = span.start_ns + span.duration_ns, ends.setdefault((span.node, span.thread), [])
        fits = (number for number, still in enumerate(beside) if _has_room(still, span.start_ns, end))
        number = next(fits, len(beside))
        if number == len(beside):
            beside.append([])
        beside[number].append(end)
        tracks[place] += number
    return tracks


def _has_room(ends: list[int], start_ns: int, end_ns: int) -> bool:
    """Whether a span is after, or within, all that is open on a track."""
    while ends and ends[-1] <= start_ns:
        ends.pop()
    return not ends or end_ns <= ends[-1]


def spans_of(traced: Traced) -> list[tuple[Span, Mapping[int, str]]]:
    """The spans of the program's own calls, by our clock, and the names of their process's threads."""
    return [
        (span._replace(start_ns=span.start_ns - ahead_ns), recording.threads)
        for recording, ahead_ns in traced.recordings
        for span in recording.spans
        if _OWN not in span.name
    ]


def _of_span(span: Span, track: Mapping[str, int], *, arrow: bool) -> list[dict[str, Any]]:
    """Times are in nanoseconds."""
    where = {**track, "cat": span.kind}
    start, number = span.start_ns, f"{span.call_id:x}"
    if span.kind == "future":  # several of a thread at once
        both = {**where, "name": span.name, "id": number}
        events = [{**both, "ph": "b", "ts": start}, {**both, "ph": "e", "ts": start + span.duration_ns}]
        events.append({**where, "ph": "X", "name": f"submit {span.name}", "ts": start, "dur": _SUBMIT_NS})
    else:
        events = [{**where, "ph": "X", "name": span.name, "ts": start, "dur": span.duration_ns}]
    if arrow:
        end = {"ph": "f", "bp": "e"} if span.kind == "handler" else {"ph": "s"}
        events.append({**where, **end, "cat": "arrow", "name": "call", "id": number, "ts": start})
    return events


def _of_lives(lives: Iterable[LifeEvent], places: Mapping[str, int]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    by_node: dict[str, list[LifeEvent]] = {}
    for life in lives:
        states = by_node.setdefault(life.node, [])
        if not states or states[-1].state != life.state:  # else another part of its record changed
            states.append(life)
    for node, states in by_node.items():
        where = {"pid": places[node], "tid": _LIFE, "cat": "state"}
        following = [*states[1:], LifeEvent(node, "", time.time())]
        for life, then in zip(states, following, strict=True):
            begun_ns = int(life.time_s * 1e9)
            named = {**where, "name": life.state, "ts": begun_ns}
            if NodeState(life.state).ended:
                events.append({**named, "ph": "i", "s": "p"})
            elif life.state != NodeState.PENDING:
                events.append({**named, "ph": "X", "dur": max(0, int(then.time_s * 1e9) - begun_ns)})
    return events


def _named(kind: str, place: int, thread: int | None, name: str) -> dict[str, Any]:
    event: dict[str, Any] = {"ph": "M", "name": kind, "pid": place, "args": {"name": name}}
    return event if thread is None else {**event, "tid": thread}
