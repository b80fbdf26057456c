"""Deadlines and cancelling."""

from __future__ import annotations

import concurrent.futures

from kourou import courier
from kourou.errors import (
    DeadlineExceeded,
)
from kourou.testing.contracts.serving import PATIENCE_S, connected, eventually, raised

__all__ = ["check_cancel_reaches_the_handler", "check_deadlines", "check_result_timeout_leaves_the_call_alone"]


def check_deadlines(lane: str) -> None:
    """A call ends at its deadline and its handler is told; time-outs may differ from call to call."""
    with connected(lane) as (_, target, client):
        for timeout_s in (0.1, 1.0, 10.0):
            raised(DeadlineExceeded, courier.with_options(client, timeout_s=timeout_s).block)
            if target.entered.acquire(blocking=False):
                break  # on a busy machine the time may be over before the handler is reached, which then never runs
        assert target.cancelled.wait(PATIENCE_S)
        future = courier.with_options(client, timeout_s=0.1).futures.block()
        seen: list[BaseException | None] = []
        future.add_done_callback(lambda done: seen.append(done.exception()))
        eventually(lambda: bool(seen), "the callback of a call that timed out ran")
        assert isinstance(seen[0], DeadlineExceeded)
        assert client.echo(1) == 1


def check_cancel_reaches_the_handler(lane: str) -> None:
    """cancel() ends the future at once and sets the handler's flag."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        assert target.entered.acquire(timeout=PATIENCE_S)
        assert future.cancel()
        assert future.cancelled()
        assert target.cancelled.wait(PATIENCE_S)
        raised(concurrent.futures.CancelledError, future.result)
        assert client.echo(1) == 1


def check_result_timeout_leaves_the_call_alone(lane: str) -> None:
    """result(timeout) only stops waiting."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        raised(TimeoutError, future.result, 0.05)
        target.release.set()
        assert future.result() == "released"
