"""Deadlines and cancelling."""

from __future__ import annotations

import concurrent.futures

from kourou import courier
from kourou.courier import Client
from kourou.errors import CallCancelled, DeadlineExceeded, RemoteError
from kourou.testing.contracts.serving import PATIENCE_S, connected, raised
from kourou.testing.polling import until


def check_deadlines(lane: str) -> None:
    """A call ends at its deadline and its handler is told; time-outs may differ from call to call."""
    with connected(lane) as (_, target, client):
        for timeout_s in (0.1, 1.0, 10.0):
            error = raised(DeadlineExceeded, courier.with_options(client, timeout_s=timeout_s).block)
            assert courier.address(client) in str(error) or "contract" in str(error)
            if target.entered.acquire(blocking=False):
                break  # on a busy machine the time may be over before the handler is reached, which then never runs
        assert target.cancelled.wait(PATIENCE_S)
        future = courier.with_options(client, timeout_s=0.1).futures.block()
        seen: list[BaseException | None] = []
        future.add_done_callback(lambda done: seen.append(done.exception()))
        until(lambda: bool(seen), PATIENCE_S, "the callback of a call that timed out ran")
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


def check_cancel_reaches_coroutines(lane: str) -> None:
    """A coroutine is cancelled with its call: by cancel(), by the deadline, and when its client leaves."""
    with connected(lane) as (server, target, client):
        assert raised(RemoteError, client.leave_later).remote_type == "SystemExit"
        stranger = Client(server.address, lane=lane, token=server.token, timeout_s=PATIENCE_S)
        for give_up in ("cancel", "deadline", "leave"):
            caller = courier.with_options(client, timeout_s=0.3) if give_up == "deadline" else stranger
            future = caller.futures.wait_long()
            if give_up == "deadline":
                assert isinstance(future.exception(), DeadlineExceeded)
            else:
                assert target.entered.acquire(timeout=PATIENCE_S)
                future.cancel() if give_up == "cancel" else courier.close(stranger)
            if target.entered.acquire(blocking=False) or give_up != "deadline":
                assert target.cancelled.wait(PATIENCE_S)
            target.cancelled.clear()
        assert client.later(1) == 2


def check_calls_that_nobody_wants_do_not_begin(lane: str) -> None:
    """Calls that wait for a thread are dropped when they are cancelled, or their client leaves."""
    with connected(lane, thread_pool_size=1) as (server, target, client):
        stranger = Client(server.address, lane=lane, token=server.token, timeout_s=PATIENCE_S)
        assert stranger.echo(1) == 1
        blocked = client.futures.block()
        assert target.entered.acquire(timeout=PATIENCE_S)
        cancelled = client.futures.add(1)
        kept = client.futures.add(10)
        left = stranger.futures.add(100)
        until(lambda: server.metrics()["add"].in_flight == 3, PATIENCE_S, "all wait for a thread")
        cancelled.cancel()
        courier.close(stranger)
        until(lambda: server.metrics()["add"].in_flight == 1, PATIENCE_S, "two are given up")
        target.release.set()
        assert (blocked.result(), kept.result(), target.count) == ("released", 10, 10)
        assert isinstance(left.exception(), CallCancelled)
