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
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, ParamSpec, TypeVar

from kourou.courier.calls import call_scope
from kourou.courier.patrol import Patrol
from kourou.courier.stacking import split, stack
from kourou.courier.workers import WorkerPool
from kourou.errors import CallCancelled, ServerOverloaded

__all__ = ["BatchedHandler", "batched_handler"]

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_TIMEOUT = datetime.timedelta(milliseconds=200)
_MAX_WAITING_BATCHES = 10_000
_CANCEL_POLL_S = 0.05  # how soon a caller in the same process notices that the call it serves was cancelled


def batched_handler(
    batch_size: int,
    max_parallelism: int = 1,
    timeout: datetime.timedelta | float = _DEFAULT_TIMEOUT,
    *,
    pad_batch: bool = False,
) -> Callable[[Callable[P, R]], BatchedHandler[P, R]]:
    """Let a function answer batches of calls.

    Use it in a constructor or as a decorator of a method::

        self.act = batched_handler(batch_size=8)(self.act)

        @batched_handler(batch_size=8)
        def act(self, observation): ...

    The function gets stacked arguments (``kourou.courier.stacking``) and returns results with an entry for each call
    along the first axis. Callers see nothing of it. When it raises, all callers of the batch get the error.

    Args:
        batch_size: calls in a full batch, which runs at once.
        max_parallelism: batches that may run at the same time.
        timeout: seconds or timedelta after which a batch runs though it is not full. The default is short enough for
            an actor not to notice, and long enough for all actors to arrive.
        pad_batch: fill a batch that is not full with copies of its first call, so that the function always sees the
            same shapes (for compiled models).
    """
    seconds = timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else float(timeout)
    if batch_size < 1 or max_parallelism < 1 or not seconds >= 0:
        raise ValueError(f"batches of {batch_size}, {max_parallelism} at a time, after {timeout}: all must be positive")

    def wrap(function: Callable[P, R]) -> BatchedHandler[P, R]:
        return BatchedHandler(function, batch_size, max_parallelism, seconds, pad_batch)

    return wrap


class _Batch:
    """Calls that will run together."""

    def __init__(self, arguments: tuple[int, frozenset[str]], deadline: float) -> None:
        self.arguments = arguments  # how many positional ones, and the names of the others
        self.deadline = deadline
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Future[Any]]] = []
        self.context = contextvars.copy_context()  # of the first call: the node that it belongs to


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
        functools.update_wrapper(self, function)
        self._function = function
        self._instance: object = None  # whose method it is, when it was made by the decorator
        self._options = (batch_size, max_parallelism, timeout_s, pad_batch)
        self._batch_size = batch_size
        self._timeout_s = timeout_s
        self._pad_batch = pad_batch
        self._name = getattr(function, "__name__", type(function).__name__)
        self._lock = threading.Lock()
        self._open: _Batch | None = None
        self._make_threads()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Take part in a batch and wait for the own result."""
        future = self.submit(*args, **kwargs)
        scope = call_scope.get()
        if scope is None:
            return future.result()
        while not scope.is_set():
            with contextlib.suppress(FutureTimeoutError, TimeoutError):
                return future.result(_CANCEL_POLL_S)
        future.cancel()
        raise CallCancelled(f"{self._name}: the call that was to be part of a batch was cancelled")

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
            TypeError: other arguments than the rest of the batch has.
        """
        future: Future[R] = Future()
        arguments = (len(args), frozenset(kwargs))
        full = None
        with self._lock:
            batch = self._open
            if batch is None:
                batch = self._open = _Batch(arguments, time.monotonic() + self._timeout_s)
            if batch.arguments != arguments:
                expected, names = batch.arguments
                raise TypeError(
                    f"{self._name}: the calls of a batch need the same arguments; this batch has {expected} positional"
                    f" ones and {sorted(names)}, this call {len(args)} and {sorted(kwargs)}"
                )
            batch.calls.append((args, kwargs, future))
            if len(batch.calls) >= self._batch_size:
                full, self._open = batch, None
        if full is not None:
            self._start(full)
        else:
            self._patrol.call(urgent=len(batch.calls) == 1)
        return future

    def close(self) -> None:
        """End the threads, and cancel the calls of an open batch. A server that stops does it; later calls are fine."""
        with self._lock:
            batch, self._open = self._open, None
            pool, patrol = self._pool, self._patrol
            self._make_threads()
        for _, _, future in batch.calls if batch is not None else ():
            future.cancel()
        pool.stop()
        patrol.stop()

    def _make_threads(self) -> None:
        parallelism = self._options[1]
        self._pool = WorkerPool(parallelism, _MAX_WAITING_BATCHES, f"kourou-batch-{self._name}")
        self._patrol = Patrol(self._run_overdue, f"kourou-batch-timer-{self._name}")

    def _start(self, batch: _Batch) -> None:
        if not self._pool.submit(functools.partial(batch.context.run, self._run, batch)):
            for _, _, future in batch.calls:
                future.set_exception(ServerOverloaded(f"{self._name}: too many batches wait"))

    def _run_overdue(self) -> float | None:
        """Start the open batch if its time is up; the seconds until that."""
        with self._lock:
            batch = self._open
            if batch is None:
                return None
            left_s = batch.deadline - time.monotonic()
            if left_s > 0:
                return min(left_s, threading.TIMEOUT_MAX)
            self._open = None
        self._start(batch)
        return None

    def _run(self, batch: _Batch) -> None:
        calls = [call for call in batch.calls if call[2].set_running_or_notify_cancel()]
        if not calls:
            return
        rows = calls + [calls[0]] * (self._batch_size - len(calls) if self._pad_batch else 0)
        try:
            args = stack([args for args, _, _ in rows], f"{self._name}: arguments")
            kwargs = stack([kwargs for _, kwargs, _ in rows], f"{self._name}: arguments")
            results = split(self._function(*args, **kwargs), len(calls), f"{self._name}: the result")
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: every caller has to hear of it
            for _, _, future in calls:
                future.set_exception(_own_copy(error))
            return
        for (_, _, future), result in zip(calls, results, strict=True):
            future.set_result(result)


def _own_copy(error: BaseException) -> BaseException:
    """An error for each caller: one object raised in several threads would tangle their tracebacks."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 - its constructor wants something else; better the same one than none
        return error
    return own.with_traceback(error.__traceback__) if type(own) is type(error) else error
