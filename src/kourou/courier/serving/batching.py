"""Handlers that answer several calls at once, for models that are faster on a batch.

A server does not keep a thread waiting for each call of an open batch: such a call is parked as a future, and answered
when its batch is done.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import datetime
import functools
import inspect
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from kourou import threads
from kourou.arguments import also_named
from kourou.courier.serving.call_info import call_scope
from kourou.courier.serving.reports import BatchReport
from kourou.courier.serving.stacking import split, stack
from kourou.errors import CallCancelled, ServerOverloaded
from kourou.shown import shown

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

_DEFAULT_TIMEOUT = datetime.timedelta(milliseconds=200)
_MAX_WAITING = 100_000  # calls
_CANCEL_POLL_S = 0.05  # how soon a caller in the same process notices that the call it serves was cancelled


@also_named(timeout="timeout_s")
def batched_handler(
    batch_size: int,
    max_parallelism: int = 1,
    timeout_s: datetime.timedelta | float = _DEFAULT_TIMEOUT,
    *,
    pad_batch: bool = False,
) -> Callable[[Callable[P, R]], BatchedHandler[P, R]]:
    """Let a function answer batches of calls.

    Use it in a constructor or as a decorator of a method::

        self.act = batched_handler(batch_size=8)(self.act)

        @batched_handler(batch_size=8)
        def act(self, observation): ...

    The function gets stacked arguments (``kourou.courier.serving.stacking``) and returns results with an entry for
    each call along the first axis. Callers see nothing of it. When it raises, all callers of the batch get the error.

    A batch runs when it is full, or when the function is idle and nobody else is about to call: those that the last
    batch has answered are waited for, but no longer than that batch took, since running twice would take no more.

    Args:
        batch_size: calls in a full batch, which runs at once.
        max_parallelism: batches that may run at the same time.
        timeout_s: seconds or timedelta after which a batch runs in any case, if the function is idle.
        pad_batch: fill a batch that is not full with copies of its first call, so that the function always sees the
            same shapes (for compiled models).
    """
    if callable(batch_size):
        raise TypeError(f"batched_handler takes a size: write @batched_handler(batch_size=…), over {shown(batch_size)}")
    seconds = timeout_s.total_seconds() if isinstance(timeout_s, datetime.timedelta) else float(timeout_s)
    if batch_size < 1 or max_parallelism < 1 or not seconds >= 0:
        raise ValueError(
            f"batches of {batch_size}, {max_parallelism} at a time, after {timeout_s}: all must be positive"
        )

    def wrap(function: Callable[P, R]) -> BatchedHandler[P, R]:
        return BatchedHandler(function, batch_size, max_parallelism, seconds, pad_batch)

    return wrap


class _Call:
    """One call that waits to be part of a batch."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.future: Future[Any] = Future()
        self.since = time.monotonic()
        self.scope = call_scope.get()
        self.context = contextvars.copy_context()  # of the node that it belongs to

    def goes_with(self, other: _Call) -> bool:
        """Whether both have as many positional arguments, and keywords of the same names."""
        return len(self.args) == len(other.args) and self.kwargs.keys() == other.kwargs.keys()

    def begin(self) -> bool:
        """Whether somebody still waits for it."""
        if self.scope is not None and self.scope.is_set():
            self.future.cancel()
        return self.future.set_running_or_notify_cancel()


class _Batches:
    """Calls on their way into batches, and the threads that run those.

    Args:
        run: takes the calls of a batch; returns what answers them.
        timeout_s: how long a call waits at most while there is a thread for it.
    """

    def __init__(
        self, run: Callable[[list[_Call]], Callable[[], None]], size: int, parallelism: int, timeout_s: float, name: str
    ) -> None:
        self._run = run
        self._size = size
        self._parallelism = parallelism
        self._timeout_s = timeout_s
        self._name = name
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._threads = self._idle = 0
        self._expected = 1  # calls of the next batch, as far as one can tell
        self._ended = self._took_s = 0.0  # when the last batch ended, and how long it took
        self._closed = False

    def put(self, call: _Call) -> None:
        """Let a call take part.

        Raises:
            ServerOverloaded: too many wait, or there is no thread to be had.
        """
        with self._changed:
            if self._closed:
                call.future.cancel()  # as those that came before
                return
            if len(self._waiting) >= _MAX_WAITING:
                raise ServerOverloaded(f"{self._name}: {len(self._waiting)} calls wait for a batch")
            self._waiting.append(call)
            if not self._idle and self._threads < self._parallelism:
                self._hire()
            self._changed.notify()

    def close(self) -> None:
        """End the threads, and cancel the calls that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.future.cancel()

    def report(self) -> list[BatchReport]:
        """The calls that wait, if there are some."""
        now = time.monotonic()
        with self._changed:
            if not self._waiting:
                return []
            for_s = now - self._waiting[0].since
            return [
                BatchReport(
                    method=self._name,
                    waiting=len(self._waiting),
                    size=self._size,
                    for_s=for_s,
                    due_s=self._timeout_s - for_s,
                )
            ]

    def _hire(self) -> None:
        try:
            threads.start(threading.Thread(target=self._work, name=f"kourou-batch-{self._name}", daemon=True))
            self._threads += 1
        except RuntimeError as error:  # the interpreter is shutting down, or the system has no more threads
            if not self._threads:
                self._waiting.pop()
                raise ServerOverloaded(f"{self._name}: no thread can be started: {error}") from error

    def _work(self) -> None:
        while True:
            with self._changed:
                while (pause_s := self._pause_s()) != 0 and not self._closed:
                    self._idle += 1
                    self._changed.wait(pause_s)
                    self._idle -= 1
                if self._closed:
                    return
                calls = self._take()
            started = time.monotonic()
            context = calls[0].context
            answer = context.run(self._run, calls)
            with self._changed:
                self._ended = time.monotonic()
                self._took_s = self._ended - started
                # Those that are about to be answered may ask again. Looked at before that: nobody is counted twice.
                self._expected = min(self._size, len(calls) + len(self._waiting))
            context.run(answer)
            del calls, context, answer

    def _pause_s(self) -> float | None:
        """How long a thread that is free lets the next batch wait for further calls; None while there are none."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        alike = itertools.takewhile(first.goes_with, self._waiting)
        count = sum(1 for _ in itertools.islice(alike, self._expected))  # there may be many thousands
        if count >= self._expected or count < len(self._waiting):  # … or somebody waits who cannot be part of it
            return 0.0
        due = min(first.since + self._timeout_s, max(first.since, self._ended) + self._took_s)
        return min(max(0.0, due - time.monotonic()), threading.TIMEOUT_MAX)

    def _take(self) -> list[_Call]:
        calls = [self._waiting.popleft()]
        while self._waiting and len(calls) < self._size and calls[0].goes_with(self._waiting[0]):
            calls.append(self._waiting.popleft())
        return calls


class BatchedHandler(Generic[P, R]):
    """What ``batched_handler`` makes of a function; see there for the arguments. Call it like the function."""

    def __init__(
        self,
        function: Callable[P, R],
        batch_size: int,
        max_parallelism: int,
        timeout_s: float,
        pad_batch: bool,  # noqa: FBT001 - only ``batched_handler`` and pickle call this
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} is async, and a batch runs in a thread of its own: write def")
        functools.update_wrapper(self, function)
        self._function = function
        self._instance: object = None  # whose method it is, when it was made by the decorator
        self._options = (batch_size, max_parallelism, timeout_s, pad_batch)
        self._batch_size = batch_size
        self._pad_batch = pad_batch
        self._name = getattr(function, "__name__", type(function).__name__)
        self._batches = self._make_batches()

    def _make_batches(self) -> _Batches:
        size, parallelism, timeout_s, _ = self._options
        return _Batches(self._run, size, parallelism, timeout_s, self._name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Take part in a batch and wait for the own result."""
        future = self.submit(*args, **kwargs)
        scope = call_scope.get()
        while scope is not None:
            if scope.is_set():
                future.cancel()
                raise CallCancelled(f"{self._name}: the call that was to be part of a batch was cancelled")
            with contextlib.suppress(FutureTimeoutError, TimeoutError):
                future.exception(_CANCEL_POLL_S)  # it is returned: the function may have raised such an error itself
                break
        return future.result()

    @overload
    def __get__(self, instance: None, owner: type) -> BatchedHandler[P, R]: ...
    @overload
    def __get__(
        self: BatchedHandler[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> BatchedHandler[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> BatchedHandler[..., R]:
        """As a decorator of a method: every object has batches of its own."""
        if instance is None:
            return self
        bound: BatchedHandler[..., R] = type(self)(self._function.__get__(instance, owner), *self._options)
        bound._instance = instance
        instance.__dict__.setdefault(self._name, bound)  # found there from now on
        found: BatchedHandler[..., R] = instance.__dict__[self._name]
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if self._instance is not None:  # the decorator makes it again, from the copy of the object
            return getattr, (self._instance, self._name)
        return type(self), (self._function, *self._options)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Take part in a batch; the future of the own result.

        Raises:
            ServerOverloaded: too many calls wait.
        """
        call = _Call(args, kwargs)
        self._batches.put(call)
        return call.future

    def report(self) -> list[BatchReport]:
        """The calls that wait for a batch, if there are some."""
        return self._batches.report()

    def close(self) -> None:
        """End the threads, and cancel the calls that wait. A server that stops does it; later calls are fine."""
        batches, self._batches = self._batches, self._make_batches()
        batches.close()

    def _run(self, batch: list[_Call]) -> Callable[[], None]:
        calls = [call for call in batch if call.begin()]
        if not calls:
            return lambda: None
        rows = calls + [calls[0]] * (self._batch_size - len(calls) if self._pad_batch else 0)
        function = cast("Callable[..., R]", self._function)  # the stacked arguments are not those of one call
        try:
            args = stack([row.args for row in rows], f"{self._name}: arguments")
            kwargs = stack([row.kwargs for row in rows], f"{self._name}: arguments")
            results = split(function(*args, **kwargs), len(calls), f"{self._name}: the result")
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: every caller has to hear of it
            return functools.partial(_fail, calls, error)
        return functools.partial(_answer, calls, results)


def _answer(calls: list[_Call], results: list[Any]) -> None:
    for call, result in zip(calls, results, strict=True):
        call.future.set_result(result)


def _fail(calls: list[_Call], error: BaseException) -> None:
    for call in calls:
        call.future.set_exception(_own_copy(error))


def _own_copy(error: BaseException) -> BaseException:
    """An error for each caller: one object raised in several threads would tangle their tracebacks."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 - its constructor wants something else; better the same one than none
        return error
    return own.with_traceback(error.__traceback__) if type(own) is type(error) else error
