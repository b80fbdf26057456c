"""Calls and streams on event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from kourou import courier
from kourou.courier import Client
from kourou.errors import CallCancelled, DeadlineExceeded, RemoteError
from kourou.testing.contracts.serving import PATIENCE_S, Target, connected


def check_futures_can_be_awaited(lane: str) -> None:
    """In a coroutine, without holding up its event loop."""

    async def work(client: Any, server: Any) -> None:
        futures = client.futures  # the first call waits for the connection
        assert await asyncio.gather(*(futures.echo(number) for number in range(100))) == list(range(100))
        for number in range(20):
            assert await futures.later(number) == number + 1
        assert len(await futures.echo(b"x" * 3_000_000)) == 3_000_000
        answer = futures.echo(1)
        assert [await answer, await answer, answer.result()] == [1, 1, 1]
        both = futures.echo(2)
        assert list(await asyncio.gather(asyncio.ensure_future(both), asyncio.ensure_future(both))) == [2, 2]
        error = await _outcome(futures.missing_key())
        assert isinstance(error, KeyError)
        hurried: Any = Client(server.address, lane=lane, token=server.token, timeout_s=0.1)
        assert await hurried.futures.later(1) == 2
        error = await _outcome(hurried.futures.wait_long())
        assert isinstance(error, DeadlineExceeded)
        courier.close(hurried)

    with connected(lane) as (server, _target, client):
        _run(work(client, server))


def check_event_loops_and_threads_share_a_client(lane: str) -> None:
    """Whoever reads, everybody gets what is their own."""

    async def awaits(client: Any, seed: int) -> int:
        for step in range(50):
            values = [(seed, step, number) for number in range(4)]
            assert await asyncio.gather(*map(client.futures.echo, values)) == values
            assert client.echo(step) == step  # a call that blocks the loop is allowed
        return seed

    def blocks(client: Any, seed: int) -> int:
        assert [client.echo(step) for step in range(200)] == list(range(200))
        return seed

    with connected(lane) as (_, _target, client):
        done: list[int] = []
        works = [lambda: _run(awaits(client, 0)), lambda: _run(awaits(client, 1)), lambda: blocks(client, 2)]
        threads = [threading.Thread(target=lambda work=work: done.append(work())) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(done) == [0, 1, 2]


def check_streams_can_be_awaited(lane: str) -> None:
    """``async for`` over generators of both kinds; leaving it closes them."""

    async def work(futures: Any, target: Target) -> None:
        for numbers in (futures.numbers, futures.numbers_later):
            assert [number async for number in numbers(500)] == list(range(500))
            assert [number async for number in numbers(0)] == []
            assert [number async for number, _ in await numbers(10, 300_000)] == list(range(10))
            target.closed.clear()
            async for number in numbers(10_000):
                if number == 2:
                    break
            await _until(target.closed.is_set)
        for failing in (futures.failing_numbers, futures.failing_numbers_later):
            items = aiter(failing())
            assert await anext(items) == 1
            error = await _outcome(anext(items))
            assert isinstance(error, ValueError)
            assert isinstance(error, RemoteError)
            assert [item async for item in items] == []
        error = await _outcome(anext(aiter(futures.echo([1, 2]))))
        assert "no generator" in str(error)
        assert isinstance(error, TypeError)

    with connected(lane) as (_, target, client):
        _run(work(client.futures, target))


def check_cancelled_tasks_cancel_their_calls(lane: str) -> None:
    """A handler in a thread sees its flag, a coroutine is cancelled, a generator is closed."""

    async def work(futures: Any, target: Target) -> None:
        for wait in (futures.block, futures.wait_long):
            target.cancelled.clear()
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)  # a task that has not begun awaits nothing, and has nothing to cancel
            await _until(lambda: target.entered.acquire(blocking=False))
            task.cancel()
            error = await _outcome(task)
            assert isinstance(error, asyncio.CancelledError)
            await _until(target.cancelled.is_set)
        target.closed.clear()
        items = futures.numbers_that_pause(1)
        assert await anext(aiter(items)) == 0
        task = asyncio.ensure_future(anext(await items))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _until(target.closed.is_set)
        assert await futures.echo(1) == 1

    with connected(lane) as (_, target, client):
        _run(work(client.futures, target))


def check_what_is_awaited_ends_with_the_connection(lane: str) -> None:
    """Awaited calls and streams fail as others do, and the event loop can have a client again."""

    async def work(server: Any, target: Target) -> None:
        client: Any = Client(server.address, lane=lane, token=server.token)
        call = asyncio.ensure_future(client.futures.wait_long())
        stream = await client.futures.numbers_that_pause(1)
        assert await anext(stream) == 0
        item = asyncio.ensure_future(anext(stream))
        await _until(lambda: target.entered.acquire(blocking=False))
        courier.close(client)
        errors = await asyncio.gather(call, item, return_exceptions=True)
        assert [type(error) for error in errors] == [CallCancelled, CallCancelled]
        again: Any = Client(server.address, lane=lane, token=server.token)
        assert await again.futures.later(1) == 2
        courier.close(again)

    with connected(lane) as (server, target, _):
        _run(work(server, target))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))


async def _outcome(awaitable: Any) -> Any:
    outcomes: list[Any] = list(await asyncio.gather(awaitable, return_exceptions=True))
    return outcomes[0]


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - it is about threads
        await asyncio.sleep(0.002)
