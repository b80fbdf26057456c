"""What every lane of the courier has to do, as checks that anybody can run.

Each check is a function of one argument, the name of a lane. It starts servers and clients of its own, and raises
AssertionError when the lane breaks the contract::

    @pytest.mark.parametrize("check", contracts.LANE_CHECKS)
    def test_my_lane(check):
        check("local")
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kourou.courier import Client, Server, current_call, list_methods, new_token
from kourou.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    RemoteError,
    RpcError,
    SerializationError,
    ServerOverloaded,
    ServerUnavailable,
    Unauthenticated,
    UnknownMethod,
)

__all__ = ["LANE_CHECKS", "connected", "eventually"]

_PATIENCE_S = 20.0  # a check that takes longer has failed


class HostileError(Exception):
    """An exception whose constructor cannot be called with its arguments, and must not be called again."""

    made = 0

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first}/{second}")
        type(self).made += 1
        self.second = second


class _Target:
    """What the checks serve."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Semaphore(0)
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self.yielded = 0
        self.concurrent = 0
        self.most = 0
        self.count = 0
        self._lock = threading.Lock()

    @property
    def costly(self) -> int:
        raise AssertionError("a property was evaluated")

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return (args, kwargs) if kwargs or len(args) != 1 else args[0]

    def add(self, number: int) -> int:
        with self._lock:
            self.count += number
            return self.count

    def fail(self) -> None:
        raise HostileError("no", 7)

    def missing_key(self) -> None:
        raise KeyError("k")

    def no_file(self) -> None:
        raise FileNotFoundError(2, "not there", "/x")

    def leave(self) -> None:
        raise SystemExit(3)

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def unpicklable(self) -> Any:
        return threading.Lock()

    def block(self) -> str:
        with self._lock:
            self.concurrent += 1
            self.most = max(self.most, self.concurrent)
        self.entered.release()
        try:
            while not self.release.wait(0.01):
                if current_call().cancelled.is_set():
                    self.cancelled.set()
                    return "cancelled"
        finally:
            with self._lock:
                self.concurrent -= 1
        return "released"

    def numbers(self, count: int, size: int = 0) -> Iterator[Any]:
        try:
            for number in range(count):
                self.yielded += 1
                yield (number, b"x" * size) if size else number
        finally:
            self.closed.set()

    def failing_numbers(self) -> Iterator[int]:
        yield 1
        raise ValueError("after one")

    async def later(self, value: int) -> int:
        return value + 1

    def __call__(self, value: int) -> int:
        return -value


@contextlib.contextmanager
def connected(lane: str, **server_options: Any) -> Iterator[tuple[Server, _Target, Client]]:
    """A server of the checks' object and a client on the given lane."""
    target = _Target()
    server = Server("contract", token=new_token(), **server_options)
    server.bind_object(target)
    with server:
        client = Client(server.address, lane=lane, token=server.token, call_timeout=_PATIENCE_S)
        try:
            yield server, target, client
        finally:
            target.release.set()
            client.close()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, at most as long as a check may take."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)


def _raised(kind: type[BaseException], call: Any, *args: Any) -> Any:
    try:
        result = call(*args)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised; got {result!r}")


# -- calls ------------------------------------------------------------------------------------------------------


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
        assert client.lane is None or client.lane == lane
        for value in values:
            assert client.echo(value) == value
            assert client.futures.echo(value).result() == value
        assert client.lane == lane
        assert client.echo(1, "two", three=3) == ((1, "two"), {"three": 3})
        assert client(5) == -5
        assert client.futures(6).result() == -6
        assert client.later(1) == 2


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
            thread.join(_PATIENCE_S)
        assert not wrong
        assert not any(thread.is_alive() for thread in threads)
        eventually(lambda: target.count == 600, "futures that nobody looked at were carried out")


def check_futures_are_real(lane: str) -> None:
    """They work with callbacks and with concurrent.futures' own functions; callbacks may call."""
    with connected(lane) as (_, _target, client):
        futures = [client.futures.echo(number) for number in range(10)]
        done, not_done = concurrent.futures.wait(futures, timeout=_PATIENCE_S)
        assert not not_done
        assert sorted(future.result() for future in done) == list(range(10))
        assert len(list(concurrent.futures.as_completed([client.futures.echo(1) for _ in range(5)], _PATIENCE_S))) == 5
        nested: list[Any] = []
        client.futures.echo(1).add_done_callback(lambda future: nested.append(client.echo(future.result() + 1)))
        eventually(lambda: nested == [2], "a callback made a call of its own")
        future = client.futures.missing_key()
        assert isinstance(future.exception(), KeyError)
        assert future.done()
        assert not future.cancel()


def check_a_blocked_handler_holds_up_nobody(lane: str) -> None:
    """Other calls of the same client go on."""
    with connected(lane) as (_, target, client):
        blocked = client.futures.block()
        assert target.entered.acquire(timeout=_PATIENCE_S)
        assert client.echo(1) == 1
        assert not blocked.done()
        target.release.set()
        assert blocked.result() == "released"


def check_pool_size_is_kept(lane: str) -> None:
    """No more handlers run at a time than the server allows."""
    with connected(lane, thread_pool_size=3) as (_, target, client):
        futures = [client.futures.block() for _ in range(8)]
        for _ in range(3):
            assert target.entered.acquire(timeout=_PATIENCE_S)
        assert not target.entered.acquire(timeout=0.1)
        target.release.set()
        assert [future.result() for future in futures] == ["released"] * 8
        assert target.most == 3


# -- errors -----------------------------------------------------------------------------------------------------


def check_errors_keep_their_type(lane: str) -> None:
    """What is raised is what is caught, with the remote traceback, and without calling its constructor again."""
    with connected(lane) as (_, _target, client):
        before = HostileError.made
        error = _raised(HostileError, client.fail)
        assert HostileError.made == before + 1
        assert RemoteError in type(error).__mro__
        assert (error.second, error.args, error.node, error.method) == (7, ("no/7",), "contract", "fail")
        assert "in fail" in error.remote_traceback
        again: Any = pickle.loads(pickle.dumps(error))
        assert HostileError in type(again).__mro__
        assert (again.second, again.remote_traceback) == (7, error.remote_traceback)
        assert _raised(KeyError, client.missing_key).args == ("k",)
        assert _raised(OSError, client.no_file).errno == 2
        assert _raised(RemoteError, client.leave).remote_type == "SystemExit"
        assert _raised(RemoteError, client.interrupt).remote_type == "KeyboardInterrupt"
        assert client.echo(1) == 1


def check_errors_pass_through_a_second_server(lane: str) -> None:
    """An error that one node got from another is an error of its class for the next caller, too."""
    with connected(lane) as (_, _target, client), connected(lane) as (front, _front_target, front_client):
        front.bind("relay", client.fail)
        error = _raised(HostileError, front_client.relay)
        assert RemoteError in type(error).__mro__
        assert error.second == 7
        assert "in fail" in error.remote_traceback


def check_unknown_methods(lane: str) -> None:
    """They are attribute errors that list what there is."""
    with connected(lane) as (server, _target, client):
        error = _raised(AttributeError, client.ehco)
        assert isinstance(error, UnknownMethod)
        assert not isinstance(error, RemoteError)
        assert "echo" in str(error)
        assert "numbers" in list_methods(client)
        assert "costly" not in list_methods(client)
        server.bind("*", lambda *_args: "caught")
        assert client.anything(1) == "caught"
        server.unbind("*")


def check_what_cannot_be_pickled(lane: str) -> None:
    """An argument fails where it was given; a result fails for its caller; the server lives on."""
    with connected(lane) as (_, _target, client):
        error = _raised(SerializationError, client.echo, 1, {"deep": [threading.Lock()]})
        assert "args[1]['deep'][0]" in str(error)
        assert "unpicklable" in str(_raised(SerializationError, client.unpicklable))
        assert client.echo(1) == 1


# -- time and cancelling ----------------------------------------------------------------------------------------


def check_deadlines(lane: str) -> None:
    """A call ends at its deadline and its handler is told; time-outs may differ from call to call."""
    with connected(lane) as (_, target, client):
        for timeout_s in (0.1, 1.0, 10.0):
            _raised(DeadlineExceeded, client.with_options(timeout_s=timeout_s).block)
            if target.entered.acquire(blocking=False):
                break  # on a busy machine the time may be over before the handler is reached, which then never runs
        assert target.cancelled.wait(_PATIENCE_S)
        future = client.with_options(timeout_s=0.1).futures.block()
        seen: list[BaseException | None] = []
        future.add_done_callback(lambda done: seen.append(done.exception()))
        eventually(lambda: bool(seen), "the callback of a call that timed out ran")
        assert isinstance(seen[0], DeadlineExceeded)
        assert client.echo(1) == 1


def check_cancel_reaches_the_handler(lane: str) -> None:
    """cancel() ends the future at once and sets the handler's flag."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        assert target.entered.acquire(timeout=_PATIENCE_S)
        assert future.cancel()
        assert future.cancelled()
        assert target.cancelled.wait(_PATIENCE_S)
        _raised(concurrent.futures.CancelledError, future.result)
        assert client.echo(1) == 1


def check_result_timeout_leaves_the_call_alone(lane: str) -> None:
    """result(timeout) only stops waiting."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        _raised(TimeoutError, future.result, 0.05)
        target.release.set()
        assert future.result() == "released"


# -- streams ----------------------------------------------------------------------------------------------------


def check_streams(lane: str) -> None:
    """A generator becomes an iterator; its errors come where they were raised."""
    with connected(lane) as (_, target, client):
        assert list(client.numbers(1000)) == list(range(1000))
        assert list(client.numbers(0)) == []
        assert [number for number, _ in client.numbers(30, 300_000)] == list(range(30))
        assert list(client.futures.numbers(3).result()) == [0, 1, 2]
        stream = client.failing_numbers()
        assert next(stream) == 1
        assert isinstance(_raised(ValueError, next, stream), RemoteError)
        assert list(stream) == []
        assert target.closed.is_set()


def check_streams_wait_for_their_reader(lane: str) -> None:
    """The generator runs ahead by a bounded number of items, and occupies no thread meanwhile."""
    with connected(lane, thread_pool_size=1) as (_, target, client):
        stream = client.numbers(10_000)
        assert next(stream) == 0
        assert client.echo(1) == 1
        assert target.yielded < 100
        assert sum(1 for _ in stream) == 9_999


def check_closing_a_stream_closes_the_generator(lane: str) -> None:
    """Whether by close() or by letting go of it."""
    with connected(lane) as (_, target, client):
        stream = client.numbers(10_000)
        next(stream)
        stream.close()
        assert target.closed.wait(_PATIENCE_S)
        assert list(stream) == []
        target.closed.clear()
        stream = client.numbers(10_000)
        next(stream)
        del stream
        assert target.closed.wait(_PATIENCE_S)
        assert client.echo(1) == 1


# -- limits and ends --------------------------------------------------------------------------------------------


def check_a_full_queue_refuses(lane: str) -> None:
    """Beyond max_queue calls fail at once, and the others are answered."""
    with connected(lane, thread_pool_size=1, max_queue=2) as (_, target, client):
        first = client.futures.block()
        assert target.entered.acquire(timeout=_PATIENCE_S)
        rest = [client.futures.block() for _ in range(5)]
        eventually(lambda: sum(future.done() for future in rest) == 3, "three of five were refused")
        assert sum(isinstance(future.exception(), ServerOverloaded) for future in rest if future.done()) == 3
        target.release.set()
        assert first.result() == "released"
        assert sum(future.exception() is None for future in rest) == 2


def check_tokens(lane: str) -> None:
    """Another token gets in nowhere."""
    with connected(lane) as (server, target, _client):
        stranger = Client(server.address, lane=lane, token="wrong", call_timeout=_PATIENCE_S)
        _raised(Unauthenticated, stranger.echo, 1)
        assert isinstance(stranger.futures.echo(1).exception(), Unauthenticated)
        assert isinstance(_raised(PermissionError, stranger.add, 1), RpcError)
        assert target.count == 0
        stranger.close()


def check_stop_frees_everybody(lane: str) -> None:
    """stop() returns though a handler is stuck, and its caller gets an error."""
    with connected(lane) as (server, target, client):
        stuck = threading.Event()
        server.bind("stuck", stuck.wait)
        future = client.futures.stuck()
        eventually(lambda: server.metrics()["stuck"].in_flight == 1, "the handler runs")
        start = time.monotonic()
        server.stop(grace_s=0.05)
        assert time.monotonic() - start < 3
        assert isinstance(future.exception(_PATIENCE_S), CallCancelled | ConnectionLost)
        stuck.set()
        target.release.set()
        hurried = Client(server.address, lane=lane, token=server.token, wait_for_ready=False)
        _raised(ServerUnavailable, hurried.echo, 1)
        _raised(DeadlineExceeded, client.with_options(timeout_s=0.2).echo, 1)


def check_closed_clients(lane: str) -> None:
    """close() ends the calls in flight, and the client."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        assert target.entered.acquire(timeout=_PATIENCE_S)
        client.close()
        assert isinstance(future.exception(_PATIENCE_S), CallCancelled)
        _raised(CallCancelled, client.echo, 1)
        assert target.cancelled.wait(_PATIENCE_S)


def check_clients_can_be_pickled(lane: str) -> None:
    """A copy of a client calls the same server, on the same lane."""
    with connected(lane) as (_, _target, client):
        copy = pickle.loads(pickle.dumps(client))
        assert copy.echo(2) == 2
        assert copy.lane == lane
        copy.close()


LANE_CHECKS: tuple[Callable[[str], None], ...] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
