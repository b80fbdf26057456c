"""A trace's slices can be shown: those of a track lie within each other, by a clock that has nanoseconds."""

from __future__ import annotations

from typing import Any

from kourou.courier.core.trace import Recording, Span
from kourou.runtime.monitoring.trace import LifeEvent, Traced, trace_events

NOW_NS = 1_790_000_000_123_456_789


def events_of(*spans: Span, lives: tuple[LifeEvent, ...] = ()) -> list[dict[str, Any]]:
    return trace_events(Traced([(Recording(list(spans), {1: "pool"}, 0), 0)], []), lives)


def test_handlers_that_overlap_are_beside_each_other() -> None:
    # Given a thread that begins another handler while one waits, and a call within the other one
    waits = Span("handler", "sample", "r/0", 1, NOW_NS, 1000, 1)
    later = Span("handler", "insert", "r/0", 1, NOW_NS + 500, 1500, 2)
    within = Span("call", "a/0.x", "r/0", 1, NOW_NS + 600, 100, 3)
    after = Span("handler", "sample", "r/0", 1, NOW_NS + 2000, 10, 4)
    # When
    events = events_of(within, after, later, waits)
    # Then each track has what is within each other, and the time is exact
    slices = {event["ts"]: event for event in events if event["ph"] == "X"}
    assert {ts: event["dur"] for ts, event in slices.items()} == {0.0: 1.0, 0.5: 1.5, 0.6: 0.1, 2.0: 0.01}
    assert slices[0.0]["tid"] != slices[0.5]["tid"]
    assert slices[0.0]["tid"] == slices[0.6]["tid"] == slices[2.0]["tid"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {names[event["tid"]] for event in slices.values()} == {"pool"}


def test_a_state_ends_where_the_next_one_begins() -> None:
    lives = tuple(LifeEvent("a/0", state, 1_790_000_000.1 + 0.1 * at) for at, state in enumerate(("STARTING", "READY")))
    (starting, ready) = (event for event in events_of(lives=lives) if event["ph"] == "X")
    assert abs(starting["dur"] - 100_000) < 1
    assert ready["ts"] == starting["ts"] + starting["dur"]
