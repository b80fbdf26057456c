"""A node that answers in place of another one, so that many readers cost that one little."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar, cast

from kourou import errors
from kourou.courier import Client, Server, current_call, list_methods
from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.serving.methods import ANY_METHOD
from kourou.courier.wire import codec
from kourou.nodes.courier import CourierNode
from kourou.runtime.graph.handles import Handle
from kourou.shown import shown

T = TypeVar("T")

MAX_CALLS = 16
"""So many calls, of different methods or arguments, are remembered. Launchpad's number: what is read this way is few
and large, and every entry holds a result."""


class CacherNode(CourierNode[T]):
    """A node with all the methods of another one, which it calls once where many readers ask.

    A call is known by its method and arguments (anything that can be pickled). Its result is returned to every reader
    for ``refresh_interval_ms``. The first reader after that time has it fetched anew; until the new one is there,
    readers get the present one, if it is not older than ``stale_after_ms``, and wait where it is. So an interval has
    one call of the target at most, however many readers there are, and none when nobody reads.

    An error of the target reaches the readers with its type: those that have nothing else to get, until the next call,
    which is made an interval later. Streams (generators) cannot be cached.

    Args:
        target_handle: a handle of the node whose methods are offered.
        refresh_interval_ms: milliseconds from the arrival of a result until it is fetched anew.
        stale_after_ms: milliseconds from its arrival after which a result is not returned any more.
        courier_kwargs: arguments of its server.
        courier_client_kwargs: arguments of the clients made from its handles.

    Raises:
        GraphError: not a handle, or times that make no sense.
    """

    def __init__(
        self,
        target_handle: Handle[T],
        refresh_interval_ms: float,
        stale_after_ms: float,
        *,
        courier_kwargs: Mapping[str, Any] | None = None,
        courier_client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(target_handle, Handle):
            raise errors.GraphError(
                f"CacherNode takes a handle of the node that it stands for, got {shown(target_handle)}"
            )
        if not 0 <= refresh_interval_ms <= stale_after_ms:
            raise errors.GraphError(
                "CacherNode needs 0 <= refresh_interval_ms <= stale_after_ms, "
                f"got {shown(refresh_interval_ms)} and {shown(stale_after_ms)}"
            )
        super().__init__(
            cast("Callable[..., T]", _Cacher),  # it offers what the target offers
            target_handle,
            refresh_interval_ms / 1e3,
            stale_after_ms / 1e3,
            courier_kwargs=courier_kwargs,
            courier_client_kwargs=courier_client_kwargs,
        )
        self._target = target_handle

    @property
    def object_class(self) -> type | None:
        """The target's."""
        target = self._target.node
        return target.object_class if isinstance(target, CourierNode) else None

    def describe(self) -> str:
        """``CacherNode(learner/0)``."""
        return f"{type(self).__name__}({self._target.node_name})"


class _Cacher:
    """What a CacherNode serves: every method there is."""

    def __init__(self, client: Client, refresh_s: float, stale_s: float) -> None:
        self._client = client
        self._cache = Cache(client, refresh_s, stale_s)

    def set_courier_server(self, server: Server) -> None:
        server.bind(ANY_METHOD, self._answer)
        server.bind(LIST_METHODS, lambda: list_methods(self._client))
        server.start()

    def _answer(self, *args: Any, **kwargs: Any) -> Any:
        return self._cache.read(current_call().method, args, kwargs)


@dataclasses.dataclass
class _Entry:
    """What is known of one call. Times are of the cache's clock."""

    value: Any = None
    arrived: float | None = None
    """When the value came; None: there is none."""
    failure: Exception | None = None
    """What the last attempt raised; None if it went well."""
    tried: float | None = None
    """When the last attempt ended."""
    fetch: Future[Any] | None = None
    """The attempt under way."""


class Cache:
    """Results of calls, fetched when they are read. Thread-safe.

    Args:
        refresh_s: seconds after which a result is fetched anew.
        stale_s: seconds after which it is not returned any more; not less than ``refresh_s``.
    """

    def __init__(
        self, client: Client, refresh_s: float, stale_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._refresh_s = refresh_s
        self._stale_s = stale_s
        self._clock = clock
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()  # the one read last is the last
        self._lock = threading.Lock()

    def read(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a call, or a coroutine that waits for it, so that a waiting reader occupies no thread.

        Raises:
            Exception: what the last attempt raised, while the next one is not due.
        """
        key = _key(method, args, kwargs)
        now = self._clock()
        with self._lock:
            entry = self._entry(key)
            is_due = entry.fetch is None and (entry.tried is None or now - entry.tried >= self._refresh_s)
            if is_due:
                entry.fetch = Future()
                entry.fetch.set_running_or_notify_cancel()  # a reader that goes away cannot cancel it for the others
            fetch, value, failure = entry.fetch, entry.value, entry.failure
            is_usable = entry.arrived is not None and now - entry.arrived <= self._stale_s
        if is_due:
            self._start(entry, method, args, kwargs)
        if is_usable:
            return value
        if fetch is not None:
            return _result_of(fetch)
        assert failure is not None  # noqa: S101 - a value that went stale is due, unless an attempt failed since
        raise failure.with_traceback(None)

    def _entry(self, key: tuple[str, bytes]) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_CALLS:
            self._entries.popitem(last=False)
        return entry

    def _start(self, entry: _Entry, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        futures = self._client.futures
        try:
            call = futures if method == "__call__" else getattr(futures, method)
            call(*args, **kwargs).add_done_callback(lambda reply: self._take_reply(entry, method, reply))
        except Exception as error:  # noqa: BLE001 - whatever keeps the call from being made is its result
            self._end(entry, None, error)

    def _take_reply(self, entry: _Entry, method: str, reply: Future[Any]) -> None:
        value: Any = None
        error: Exception | None = None
        try:
            value = reply.result()
        except CancelledError:
            error = errors.CallCancelled(f"{method}: the call of the target was cancelled")
        except Exception as raised:  # noqa: BLE001 - whatever the target raised is the result
            error = raised
        if isinstance(value, Iterator):
            error = TypeError(f"{method} gives a stream, which cannot be cached: call the node itself")
        self._end(entry, value, error)

    def _end(self, entry: _Entry, value: Any, error: Exception | None) -> None:
        with self._lock:
            fetch, entry.fetch = entry.fetch, None
            entry.tried = self._clock()
            entry.failure = error
            if error is None:
                entry.value, entry.arrived = value, entry.tried
        assert fetch is not None  # noqa: S101 - an attempt ends once
        if error is None:
            fetch.set_result(value)
        else:
            fetch.set_exception(error)


async def _result_of(fetch: Future[Any]) -> Any:
    import asyncio  # noqa: PLC0415 - whoever awaits has imported it

    return await asyncio.wrap_future(fetch)


def _key(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, bytes]:
    """Equal for calls that look the same when they are pickled."""
    body, buffers = codec.encode((args, sorted(kwargs.items())), f"the arguments of {method}")
    digest = hashlib.sha256()
    for part in (*(body if isinstance(body, tuple) else (body,)), *buffers):
        digest.update(part)
    return method, digest.digest()
