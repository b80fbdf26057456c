"""The methods that a server offers, and what is known about each of them."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.serving.batching import BatchedHandler
from kourou.courier.serving.remote_methods import remote_methods
from kourou.courier.serving.reports import BatchReport
from kourou.errors import UnknownMethod

_log = logging.getLogger("kourou.courier")

ANY_METHOD = "*"  # a function bound to it answers calls of every method that is not bound
_OWN_PREFIX = "kourou."  # of methods that every node's server has; no attribute that somebody writes has a dot
_OF_CLIENTS = {  # functions that are no methods
    "close": "closes the client",
    "address": "tells its address",
    "lane": "tells its lane",
    "with_options": "gives it options",
}

_PLAIN = types.FunctionType, types.MethodType
_FAST_S = 200e-6  # a handler below this is cheaper to run at once than to hand to another thread (two hand-overs)
_SLOW_S = 1e-3  # a handler above this must not run where others wait for it
_TRUSTED = 8  # fast runs before a caller's own thread runs a handler
_MAX_TRUST = 16
_PENALTY = 12  # for a slow run: a method that was always fast survives one, since the system may have been at fault
_LEAST_TRUST = -64
_ADD_UP_EVERY = 256  # answered calls


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodMetrics:
    """What happened to one method since its server started.

    Attributes:
        calls: answered calls, errors included.
        errors: answers that were exceptions.
        in_flight: calls that run now, or wait for a thread.
        seconds: time spent in the handler, summed.
        bytes_in, bytes_out: arguments and results as they were encoded.
        latency_us_log2: how many calls took less than 2**i microseconds (and not less than 2**(i-1)).
    """

    calls: int
    errors: int
    in_flight: int
    seconds: float
    bytes_in: int
    bytes_out: int
    latency_us_log2: tuple[int, ...]


class Method:
    """One bound function with its record."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        # Those of the event loop need no thread, and have to begin there.
        self.is_coroutine_function = inspect.iscoroutinefunction(function) or (
            not isinstance(function, _PLAIN) and inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004 - looked at, not asked for
        )
        self.calls = self.errors = self.bytes_in = self.bytes_out = 0
        self.seconds = 0.0
        self.histogram = [0] * 40
        self.trust = 0  # below zero: it was slow lately, and must not run where others wait for it
        self._answered: deque[tuple[float, bool, int, int]] = deque()  # not added up yet: no call pays for a lock
        self._lock = threading.RLock()  # held for a moment, in which a signal handler may come

    @property
    def trusted(self) -> bool:
        """It was fast so often that a caller may wait for it in its own thread."""
        return self.trust >= _TRUSTED and not self.is_coroutine_function

    def record(self, seconds: float, *, failed: bool, bytes_in: int, bytes_out: int) -> None:
        """One call was answered after ``seconds`` in the handler."""
        if seconds < _FAST_S:
            if self.trust < _MAX_TRUST:
                self.trust += 1
        elif seconds > _SLOW_S and self.trust > _LEAST_TRUST:
            self.trust -= _PENALTY
        self._answered.append((seconds, failed, bytes_in, bytes_out))
        if len(self._answered) >= _ADD_UP_EVERY:
            self._add_up()

    def _add_up(self) -> None:
        with self._lock, contextlib.suppress(IndexError):  # a signal handler that came in between took the rest
            for _ in range(len(self._answered)):
                seconds, failed, bytes_in, bytes_out = self._answered.popleft()
                self.calls += 1
                self.errors += failed
                self.seconds += seconds
                self.bytes_in += bytes_in
                self.bytes_out += bytes_out
                self.histogram[int(seconds * 1e6).bit_length()] += 1

    def metrics(self, in_flight: int) -> MethodMetrics:
        """The record so far."""
        with self._lock:
            self._add_up()
            last = max((index for index, count in enumerate(self.histogram) if count), default=-1)
            return MethodMetrics(
                calls=self.calls,
                errors=self.errors,
                in_flight=in_flight,
                seconds=self.seconds,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                latency_us_log2=tuple(self.histogram[: last + 1]),
            )


class MethodTable:
    """Names and the functions they stand for. May be changed while the server runs."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}
        self._batched: list[BatchedHandler[..., Any]] = []
        self._object: object = None

    def bind(self, name: str, function: Callable[..., Any]) -> None:
        """Let ``function`` answer calls of ``name``; replaces an earlier one at once."""
        if not isinstance(name, str) or not name:
            raise ValueError("Bind method name must be non-empty")
        if not callable(function):
            raise TypeError(f"method {name!r}: a {type(function).__name__} cannot be called")
        if name == "futures":
            _log.warning("a method is named futures, as what gives futures is: call it as client.futures.futures(…)")
        if isinstance(function, BatchedHandler):
            self._batched.append(function)
            function = function.submit  # parks no thread
        self._methods[name] = Method(name, function)

    def unbind(self, name: str) -> None:
        """Forget a method; calls that run go on.

        Raises:
            UnknownMethod: it is not bound.
        """
        if self._methods.pop(name, None) is None:
            raise self._unknown(name)

    def bind_object(self, instance: object) -> None:
        """Bind every public callable of an object, and the object itself as ``__call__`` where it can be called."""
        self._object = instance
        for name, method in remote_methods(instance):
            self.bind(name, method)
        if callable(instance):
            self.bind("__call__", instance)

    def close(self) -> None:
        """End the threads of batched handlers."""
        for handler in self._batched:
            handler.close()

    def batches(self) -> tuple[BatchReport, ...]:
        """The calls that wait for batches."""
        return tuple(report for handler in self._batched for report in handler.report())

    def names(self) -> list[str]:
        """All methods, sorted."""
        return sorted(self._methods)

    def get(self, name: str) -> Method:
        """The method of that name.

        Raises:
            UnknownMethod: there is none; lists what there is, the likely ones first.
        """
        methods = self._methods
        method = methods.get(name)
        if method is None:
            method = methods.get(ANY_METHOD)
            if method is None:
                raise self._unknown(name)
        return method

    def all(self) -> Iterable[Method]:
        """The methods with their records."""
        return list(self._methods.values())

    def _unknown(self, name: str) -> UnknownMethod:
        names = [other for other in self.names() if not is_hidden(other)]
        import difflib  # noqa: PLC0415 - needed only to answer a mistake

        close = difflib.get_close_matches(name, names, n=3)
        listed = ", ".join([*close, *(other for other in names if other not in close)]) or "none at all"
        hint = f"; did you mean {close[0]}?" if close else ""
        if not is_hidden(name) and inspect.getattr_static(self._object, name, self) is not self:
            hint = f"; {name} is an attribute there, and calls are of methods: give it one that returns it"
        if name in _OF_CLIENTS:
            hint = f"; kourou.courier.{name}(client) {_OF_CLIENTS[name]}"
        return UnknownMethod(f"method {name} not found{hint} (methods: {listed})")


def is_hidden(name: str) -> bool:
    """Whether a method is kourou's own, and not told to those who ask what there is."""
    return name == LIST_METHODS or name.startswith(_OWN_PREFIX)
