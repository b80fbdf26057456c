"""Records survive JSON and protobuf."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control import node_events
from kourou.runtime.control.messages import (
    event_from_proto,
    event_to_proto,
    record_from_proto,
    record_to_proto,
)
from kourou.runtime.model.records import (
    ExitRecord,
    NodeRecord,
    NodeState,
    Outcome,
    ProcessExit,
    describe_signal,
    shortened,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LINE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
EXITS = st.builds(
    ExitRecord,
    node=LINE,
    attempt=st.integers(1, 1000),
    state=st.sampled_from(NodeState),
    cause=TEXT,
    code=st.none() | st.integers(0, 255),
    signal=st.none() | st.just("SIGKILL"),
    traceback=TEXT,
    last_lines=st.lists(TEXT, max_size=3).map(tuple),
    log_file=st.none() | LINE,
    host=TEXT,
    pid=st.none() | st.integers(1, 2**22),
    uptime_s=st.floats(0, 1e6),
)
RECORDS = st.builds(
    NodeRecord,
    name=LINE,
    state=st.sampled_from(NodeState),
    attempt=st.integers(0, 1000),
    pid=st.none() | st.integers(1, 2**22),
    host=TEXT,
    endpoint=st.none() | LINE,
    serves_only=st.booleans(),
    will_restart=st.booleans(),
    started_at=st.none() | st.floats(1, 2e9),
    exit=st.none() | EXITS,
)


@settings(max_examples=examples(40))
@given(RECORDS)
def test_a_record_survives_json(record):
    assert NodeRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@settings(max_examples=examples(40))
@given(RECORDS)
def test_a_record_survives_the_wire(record):
    message = pb.NodeRecord.FromString(record_to_proto(record).SerializeToString())
    assert record_from_proto(message) == record


@pytest.mark.parametrize(
    "event",
    [
        node_events.Welcome(),
        node_events.Stop(reason="Köln\n"),
        node_events.Release(removed="x"),
        NodeRecord(name="a/0", removed="y"),
    ],
    ids=["welcome", "stop", "release", "record"],
)
def test_an_event_survives_the_wire(event):
    assert event_from_proto(pb.Event.FromString(event_to_proto(event).SerializeToString())) == event


def test_exit_code_zero_is_told_from_none():
    record = NodeRecord(name="a/0", exit=ExitRecord(node="a/0", attempt=1, state=NodeState.FAILED, cause="x", code=0))
    back = record_from_proto(record_to_proto(record)).exit
    assert back is not None
    assert back.code == 0


def test_a_description_holds_what_a_person_needs():
    record = ExitRecord(
        node="a b/0",
        attempt=2,
        state=NodeState.FAILED,
        cause="exited with code 3",
        code=3,
        last_lines=("one", "two"),
        log_file="/x y/a b/0.log",
        host="h",
        pid=7,
        uptime_s=1.25,
    )
    text = record.describe()
    for part in ("a b/0 exited with code 3", "pid 7 on h", "attempt 2", "    one\n    two", "log: /x y/a b/0.log"):
        assert part in text
    raised = dataclasses.replace(record, traceback="Traceback: it")
    assert "Traceback: it" in raised.describe()


def test_signals_have_names_or_numbers():
    assert describe_signal(9) == "SIGKILL"
    assert describe_signal(63) == "signal 63"


@pytest.mark.parametrize("state", NodeState)
def test_a_node_is_gone_when_it_has_ended_and_will_not_be_back(state):
    ended = state in {NodeState.FINISHED, NodeState.FAILED, NodeState.KILLED}
    assert NodeRecord(name="a/0", state=state).gone is ended
    assert NodeRecord(name="a/0", state=state, will_restart=True).gone is False


@pytest.mark.parametrize(
    "text", ["a" * 10**7, "ü" * 10**6, "\ud83d" * 10**6, "line\n" * 10**6], ids=["ascii", "umlaut", "half", "lines"]
)
def test_what_a_node_says_of_its_end_is_cut_to_what_every_caller_can_be_told(text):
    outcome = Outcome(kind="raised", exception=f"ValueError: {text}", traceback=f"Traceback: {text} the end")
    seen = ProcessExit(code=1, last_lines=(text,) * 50)
    record = ExitRecord(
        node="a/0",
        attempt=1,
        state=NodeState.FAILED,
        cause=f"raised {outcome.exception}",
        traceback=outcome.traceback,
        last_lines=seen.last_lines,
    )
    sent = record_to_proto(NodeRecord(name="a/0", exit=record)).SerializeToString()
    assert len(sent) < 2**17
    back = record_from_proto(pb.NodeRecord.FromString(sent)).exit
    assert back == record
    assert back.cause.startswith("raised ValueError: ")
    assert " bytes left out " in back.cause
    assert back.traceback.startswith("Traceback: ")
    assert back.traceback.endswith(" the end")
    assert seen.last_lines


def test_the_last_lines_are_those_that_are_kept():
    lines = tuple(f"{number} {'x' * 2000}" for number in range(50))
    kept = ProcessExit(code=1, last_lines=lines).last_lines
    assert kept == lines[-len(kept) :]
    assert 10 < len(kept) < 50


@settings(max_examples=examples(40))
@given(st.text(), st.integers(60, 300))
def test_a_text_is_shortened_only_when_it_is_too_long(text, most_bytes):
    short = shortened(text, most_bytes)
    assert len(short.encode()) <= most_bytes
    told = text.encode(errors="backslashreplace").decode()
    assert short == told if len(told.encode()) <= most_bytes else " bytes left out " in short
    assert shortened(short, most_bytes) == short
