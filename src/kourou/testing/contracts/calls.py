"""Values, threads, futures."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

from kourou import courier
from kourou.errors import SerializationError
from kourou.testing.contracts.serving import PATIENCE_S, connected, raised
from kourou.testing.polling import until


def check_values_round_trip(lane: str) -> None:
    """Arguments and results arrive as they were sent, whatever their size."""
    values: list[Any] = [
        None,
        True,
        -(2**200),
        1.5,
        "ünï\0\n'\"",
        b"",
        b"x" * 5_000_000,
        bytearray(b"y" * 300_000),
        {"a": [1, (2, {3})], None: "ü" * 200_000},
        list(range(50_000)),
    ]
    with connected(lane) as (_, _target, client):
        assert courier.lane(client) is None or courier.lane(client) == lane
        for value in values:
            assert client.echo(value) == value
            assert client.futures.echo(value).result() == value
        assert courier.lane(client) == lane
        assert client.echo(1, "two", three=3) == ((1, "two"), {"three": 3})
        assert client(5) == -5
        assert client.futures(6).result() == -6
        assert client.later(1) == 2


def check_no_method_is_hidden(lane: str) -> None:
    """Methods that have the name of something that one can do with a client are called like all others."""
    with connected(lane) as (_, _target, client):
        for name in ("close", "address", "lane", "with_options"):
            assert getattr(client, name)() == "closed"
            assert getattr(client.futures, name)().result() == "closed"
        hurried = courier.with_options(client, timeout_s=1)
        assert hurried.close() == "closed"
        assert courier.address(hurried) == courier.address(client)


def check_nothing_is_shared(lane: str) -> None:
    """The receiver's objects are its own: changing them does not change the sender's."""
    with connected(lane) as (server, _target, client):
        kept: list[Any] = []

        def keep(value: bytearray) -> bytearray:
            kept.append(value)
            return value

        server.bind("keep", keep)
        sent = bytearray(b"a" * 2_000_000)
        came = client.keep(sent)
        sent[0] = 1
        came[1] = 2
        assert kept[0][:2] == b"aa"
        assert client.keep(memoryview(sent))[:2].tobytes() == b"\1a"


def check_main_and_local_classes_travel(lane: str) -> None:
    """What cannot be imported goes by value."""

    class Local:
        value = 3

    with connected(lane) as (_, _target, client):
        assert client.echo(lambda: 4)() == 4
        assert client.echo(Local()).value == 3


def check_many_threads_share_a_client(lane: str) -> None:
    """Answers reach those who asked, in any mixture of threads, blocking calls and futures."""
    with connected(lane) as (_, target, client):
        wrong: list[Any] = []

        def work(seed: int) -> None:
            for step in range(100):
                value = (seed, step)
                future = client.futures.echo(value)
                if client.echo(value) != value or future.result() != value:
                    wrong.append(value)
                client.futures.add(1)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not wrong
        assert not any(thread.is_alive() for thread in threads)
        until(lambda: target.count == 600, PATIENCE_S, "futures that nobody looked at were carried out")


def check_futures_are_real(lane: str) -> None:
    """They work with callbacks and with concurrent.futures' own functions; callbacks may call."""
    with connected(lane) as (_, _target, client):
        futures = [client.futures.echo(number) for number in range(10)]
        done, not_done = concurrent.futures.wait(futures, timeout=PATIENCE_S)
        assert not not_done
        assert sorted(future.result() for future in done) == list(range(10))
        assert len(list(concurrent.futures.as_completed([client.futures.echo(1) for _ in range(5)], PATIENCE_S))) == 5
        nested: list[Any] = []
        client.futures.echo(1).add_done_callback(lambda future: nested.append(client.echo(future.result() + 1)))
        until(lambda: nested == [2], PATIENCE_S, "a callback made a call of its own")
        future = client.futures.missing_key()
        assert isinstance(future.exception(), KeyError)
        assert future.done()
        assert not future.cancel()


def check_futures_cannot_be_sent(lane: str) -> None:
    """A future as an argument is an error that says what to send instead."""
    with connected(lane) as (_, _target, client):
        error = raised(SerializationError, client.echo, [client.futures.echo(1)])
        assert "args[0][0]" in str(error)
        assert "send its result()" in str(error)


def check_a_blocked_handler_holds_up_nobody(lane: str) -> None:
    """Other calls of the same client go on."""
    with connected(lane) as (_, target, client):
        blocked = client.futures.block()
        assert target.entered.acquire(timeout=PATIENCE_S)
        assert client.echo(1) == 1
        assert not blocked.done()
        target.release.set()
        assert blocked.result() == "released"


def check_pool_size_is_kept(lane: str) -> None:
    """No more handlers run at a time than the server allows."""
    with connected(lane, thread_pool_size=3) as (_, target, client):
        futures = [client.futures.block() for _ in range(8)]
        for _ in range(3):
            assert target.entered.acquire(timeout=PATIENCE_S)
        assert not target.entered.acquire(timeout=0.1)
        target.release.set()
        assert [future.result() for future in futures] == ["released"] * 8
        assert target.most == 3
