"""Spans of calls and handlers, while they are recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.core import trace
from kourou.courier.core.trace import Recorder, recorder
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")


def count(to: int) -> Iterator[int]:
    yield from range(to)


async def later() -> int:
    return 1


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
def test_both_sides_of_a_call_have_its_number(lane: str) -> None:
    # given a server of methods of all kinds
    with Server("n/0", token="t") as server:
        for function in (count, later, fail, len):
            server.bind(function.__name__, function)
        clients = [Client(server.address, token="t", lane=lane) for _ in range(2)]
        recorder.start(WAIT_S)
        # when they are called, by two connections
        for client in clients:
            assert client.len("four") == 4
            assert client.later() == 1
            assert list(client.count(3)) == [0, 1, 2]
            assert client.futures.len("x").result() == 1
            with pytest.raises(ValueError, match="no"):
                client.fail()
        # an answer is here before its handler's span, and a future's span is its callback's
        until(lambda: len(recorder._spans) == 20, WAIT_S, "all spans")
        for client in clients:
            courier.close(client)
    recording = recorder.stop()
    # then each call has a span here and there, of one number that no other call has
    called = {span.call_id: span for span in recording.spans if span.kind != "handler"}
    handled = {span.call_id: span for span in recording.spans if span.kind == "handler"}
    assert called.keys() == handled.keys()
    assert len(called) == 10
    assert [(called[number].kind, called[number].name.rpartition(".")[2]) for number in sorted(called)] == 2 * [
        ("call", "len"),
        ("call", "later"),
        ("call", "count"),
        ("future", "len"),
        ("call", "fail"),
    ]
    for number, call in called.items():
        assert call.name == f"{server.address}.{handled[number].name}"
        assert handled[number].node == "n/0"
        assert handled[number].start_ns >= call.start_ns
    assert all(recording.threads[span.thread] for span in recording.spans)
    assert recorder.stop().spans == []


def test_the_newest_spans_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_MOST_SPANS", 3)
    recorder = Recorder()
    recorder.start(WAIT_S)
    for number in range(5):
        recorder.add("call", str(number), 0, number)
    recording = recorder.stop()
    assert [span.name for span in recording.spans] == ["2", "3", "4"]
    assert recording.lost == 2


def test_a_recording_that_nobody_takes_ends_by_itself() -> None:
    recorder = Recorder()
    recorder.start(0.0)
    recorder.add("call", "late", 0, 1)
    assert not recorder.on
    assert recorder.stop().spans == []
