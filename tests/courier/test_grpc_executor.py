"""The threads of grpcio's servers: no task waits behind one that does not end."""

from __future__ import annotations

import threading

from kourou.courier.lanes.grpcio.executor import StreamThreads
from polling import WAIT_S


def test_tasks_that_come_at_once_have_a_thread_each():
    # Given tasks that end only together, more than there are threads, handed over before any thread wakes
    threads = StreamThreads(reserve=2)
    together = threading.Barrier(20)
    for _ in range(3):
        futures = [threads.submit(together.wait, WAIT_S) for _ in range(20)]
        # Then all of them run at the same time
        assert sorted(future.result(WAIT_S) for future in futures) == list(range(20))
    # And threads are used again
    assert threads._threads <= 60
    threads.close()


def test_a_task_that_raises_does_not_cost_a_thread():
    threads = StreamThreads()
    for _ in range(50):
        assert isinstance(threads.submit(lambda: 1 // 0).exception(WAIT_S), ZeroDivisionError)
    assert threads._threads < 50
    threads.close()
