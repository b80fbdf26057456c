"""The pool of threads that run handlers, and the calls of grpcio's servers."""

from __future__ import annotations

import os
import threading

from kourou.courier.serving.workers import WorkerPool
from polling import WAIT_S


def test_calls_that_come_at_once_have_a_thread_each():
    # Given calls that end only together, handed over before any thread wakes
    pool = WorkerPool(20, 20, "test")
    together = threading.Barrier(20)
    for _ in range(3):
        futures = [pool.run(together.wait, timeout=WAIT_S) for _ in range(20)]
        # Then all of them run at the same time
        assert sorted(future.result(WAIT_S) for future in futures) == list(range(20))
    pool.stop()


def test_a_call_that_raises_does_not_cost_a_thread():
    pool = WorkerPool(1, 1, "test")
    for _ in range(50):
        assert isinstance(pool.run(lambda: 1 // 0).exception(WAIT_S), ZeroDivisionError)
    pool.stop()


def test_a_call_waits_for_a_thread_when_the_system_has_no_more(monkeypatch):
    # Given a pool of which one thread is there, and busy
    pool = WorkerPool(2, 1, "test")
    go_on = threading.Event()
    first = pool.run(go_on.wait, 20)

    # When no other one can be started
    def cannot_start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot_start)
    second = pool.run(os.getpid)
    go_on.set()
    # Then the next call has its turn after the first one
    assert first.result(20)
    assert second.result(20) == os.getpid()
    # And a pool that has stopped makes no further call
    pool.stop()
    assert pool.run(os.getpid).cancelled()
