"""The end of something that is nearly always there at once: cheaper than a future, which has a condition."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from kourou import cpython

T = TypeVar("T")


class Completion(Generic[T]):
    """A result or an error, some time. One may ask for it, or have one function called; waiting takes a future."""

    __slots__ = ("_callback", "_error", "_result", "_state")
    _lock = cpython.renewed_in_children(threading.Lock())  # of all completions; held for a few instructions

    def __init__(self, callback: Callable[[Completion[T]], object] | None = None) -> None:
        self._callback = callback
        self._state = False
        self._error: BaseException | None = None
        self._result: T | None = None

    def done(self) -> bool:
        """Whether it is there."""
        return self._state

    def exception(self) -> BaseException | None:
        """The error; None when there is none (yet)."""
        return self._error

    def result(self) -> T:
        """The result. Raises the error if there is one; only once it is done."""
        if self._error is not None:
            raise self._error
        assert self._state  # noqa: S101 - whoever asks has looked
        return self._result  # type: ignore[return-value]  # set together with the state

    def set_result(self, result: T) -> None:
        """Here it is."""
        self._end(None, result)

    def set_exception(self, error: BaseException) -> None:
        """It went wrong."""
        self._end(error, None)

    def future(self) -> Future[T]:
        """A future of it; instead of the function called before."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: whoever completes it has nothing to do with it

        def forward(done: Completion[T]) -> None:
            error = done.exception()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        with self._lock:
            if not self._state:
                self._callback = forward
                return future
        forward(self)
        return future

    def _end(self, error: BaseException | None, result: T | None) -> None:
        with self._lock:
            if self._state:
                return  # the first word holds: a request that has failed may still be given up
            self._error, self._result = error, result
            self._state = True
            callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)


def all_of(count: int, answer: Completion[T], finish: Callable[[], object]) -> Callable[[Completion[None]], None]:
    """What is to be called with each of ``count`` completions: the last one calls ``finish``, or fails ``answer``."""
    finished = itertools.count(1)  # counting is atomic; they may be completed by different threads
    errors: list[BaseException] = []

    def done(completion: Completion[None]) -> None:
        error = completion.exception()
        if error is not None:
            errors.append(error)
        if next(finished) < count or answer.done():
            return
        if errors:
            answer.set_exception(errors[0])
        else:
            finish()

    return done


def on_behalf_of(answer: Completion[T], act: Callable[[], object]) -> None:
    """Do something for a request, in whoever's thread; what it raises is that request's answer."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - it is the requester's, and whoever's thread this is goes on
        answer.set_exception(error)


def now_or_later(answer: Completion[Any]) -> Any:
    """The answer if it is there, or else a future, which a server takes for one."""
    return answer.result() if answer.done() else answer.future()
