"""What the checks serve, and how they connect to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from kourou import courier
from kourou.courier import Client, Server, current_call, new_token

PATIENCE_S = 20.0  # a check that takes longer has failed


class HostileError(Exception):
    """An exception whose constructor cannot be called with its arguments, and must not be called again."""

    made = 0

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first}/{second}")
        type(self).made += 1
        self.second = second


class Target:
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
        """What nobody may evaluate."""
        raise AssertionError("a property was evaluated")

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        """The same back."""
        return (args, kwargs) if kwargs or len(args) != 1 else args[0]

    def add(self, number: int) -> int:
        """The sum of all numbers so far."""
        with self._lock:
            self.count += number
            return self.count

    def fail(self) -> None:
        """Raise what cannot be constructed again."""
        raise HostileError("no", 7)

    def missing_key(self) -> None:
        """Raise KeyError."""
        raise KeyError("k")

    def no_file(self) -> None:
        """Raise an OSError of two arguments and more."""
        raise FileNotFoundError(2, "not there", "/x")

    def no_memory(self) -> None:
        """Raise an error that only C code can make."""
        raise MemoryError("no room for 40 GiB")

    def close(self) -> str:
        """A method of a name that clients might have for themselves."""
        return "closed"

    address = lane = with_options = close

    def leave(self) -> None:
        """Raise SystemExit."""
        raise SystemExit(3)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt."""
        raise KeyboardInterrupt

    def unpicklable(self) -> Any:
        """Return what cannot be sent."""
        return threading.Lock()

    def block(self) -> str:
        """Wait for ``release``, or to be cancelled."""
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
        """Yield numbers, with so many bytes beside each."""
        try:
            for number in range(count):
                self.yielded += 1
                yield (number, b"x" * size) if size else number
        finally:
            self.closed.set()

    def failing_numbers(self) -> Iterator[int]:
        """Yield one number, then raise."""
        yield 1
        raise ValueError("after one")

    async def wait_long(self) -> None:
        """Wait, in a coroutine, until it is cancelled."""
        self.entered.release()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def leave_later(self) -> None:
        """Raise SystemExit in a coroutine."""
        raise SystemExit(3)

    async def numbers_later(self, count: int, size: int = 0) -> AsyncIterator[Any]:
        """Yield numbers, asynchronously."""
        try:
            for number in range(count):
                await asyncio.sleep(0)
                self.yielded += 1
                yield (number, b"x" * size) if size else number
        finally:
            self.closed.set()

    async def numbers_that_pause(self, count: int) -> AsyncIterator[int]:
        """Yield numbers, and then nothing for long."""
        try:
            for number in range(count):
                yield number
            await asyncio.sleep(60)
        finally:
            self.closed.set()

    async def failing_numbers_later(self) -> AsyncIterator[int]:
        """Yield one number, then raise."""
        yield 1
        raise ValueError("after one")

    async def later(self, value: int) -> int:
        """The next number, by a coroutine."""
        return value + 1

    def __call__(self, value: int) -> int:
        """The number with the other sign."""
        return -value


@contextlib.contextmanager
def connected(lane: str, **server_options: Any) -> Iterator[tuple[Server, Target, Client]]:
    """A server of the checks' object and a client on the given lane."""
    target = Target()
    server = Server("contract", token=new_token(), **server_options)
    server.bind_object(target)
    with server:
        client = Client(server.address, lane=lane, token=server.token, timeout_s=PATIENCE_S)
        try:
            yield server, target, client
        finally:
            target.release.set()
            courier.close(client)


def raised(kind: type[BaseException], call: Any, *args: Any) -> Any:
    """The error of the given class that a call has to raise."""
    try:
        result = call(*args)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised; got {result!r}")
