"""Generators as streams."""

from __future__ import annotations

from kourou.errors import (
    RemoteError,
)
from kourou.testing.contracts.serving import PATIENCE_S, connected, raised


def check_streams(lane: str) -> None:
    """A generator becomes an iterator; its errors come where they were raised."""
    with connected(lane) as (_, target, client):
        assert list(client.numbers(1000)) == list(range(1000))
        assert list(client.numbers(0)) == []
        assert [number for number, _ in client.numbers(30, 300_000)] == list(range(30))
        assert list(client.futures.numbers(3).result()) == [0, 1, 2]
        for failing in (client.failing_numbers, client.failing_numbers_later):
            stream = failing()
            assert next(stream) == 1
            assert isinstance(raised(ValueError, next, stream), RemoteError)
            assert list(stream) == []
        assert target.closed.is_set()
        target.closed.clear()
        assert list(client.numbers_later(1000)) == list(range(1000))
        assert [number for number, _ in client.numbers_later(30, 300_000)] == list(range(30))
        assert target.closed.wait(PATIENCE_S)


def check_streams_wait_for_their_reader(lane: str) -> None:
    """The generator runs ahead by a bounded number of items, and occupies no thread meanwhile."""
    with connected(lane, thread_pool_size=1) as (_, target, client):
        for numbers in (client.numbers, client.numbers_later):
            target.yielded = 0
            stream = numbers(2_000)
            assert next(stream) == 0
            assert client.echo(1) == 1
            assert target.yielded < 100
            assert sum(1 for _ in stream) == 1_999


def check_closing_a_stream_closes_the_generator(lane: str) -> None:
    """Whether by close() or by letting go of it."""
    with connected(lane) as (_, target, client):
        for numbers in (client.numbers, client.numbers_later):
            stream = numbers(10_000)
            next(stream)
            stream.close()
            assert target.closed.wait(PATIENCE_S)
            assert list(stream) == []
            target.closed.clear()
            stream = numbers(10_000)
            next(stream)
            del stream
            assert target.closed.wait(PATIENCE_S)
            assert client.echo(1) == 1
            target.closed.clear()
