"""Calls that wait for a connection."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kourou.courier.calling.deferred import DeferredCalls
from kourou.courier.calling.reply import Reply
from kourou.courier.wire.codec import Payload
from kourou.errors import ServerUnavailable


def test_where_there_are_no_threads_no_call_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a process that can start no thread, and another call that comes as this is noticed
    calls = DeferredCalls("learner", set())
    never: Any = None
    first, second = Reply("first", None), Reply("second", None)

    def refuse(_: threading.Thread) -> None:
        if not second.server:
            calls.add(second, Payload(b""), never)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    # When
    calls.add(first, Payload(b""), never)
    # Then
    for reply in (first, second):
        with pytest.raises(ServerUnavailable, match=f"{reply.method}: no thread can be started"):
            reply.take()
    assert not calls.forked()
