"""Waiting for a queue's next item never takes longer than it was told to."""

from __future__ import annotations

import queue
import threading
from collections import deque

import pytest

from kourou.runtime.waiting.event_queue import next_of


def test_what_is_there_comes_at_once_and_what_is_not_is_not_waited_for():
    # Given a queue whose items are taken as fast as another thread puts them
    events: queue.SimpleQueue[int] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: deque(map(events.put, range(20_000)), maxlen=0))
    thread.start()
    taken: list[int] = []
    # When somebody looks again and again without time to wait, then each look ends, and nothing is lost
    while len(taken) < 20_000:
        try:
            taken.append(next_of(events, 0))
        except queue.Empty:
            continue
    thread.join()
    assert taken == list(range(20_000))
    with pytest.raises(queue.Empty):
        next_of(events, 0.001)
