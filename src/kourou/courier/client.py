"""The client: an object whose attributes are the methods of a node."""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from kourou.arguments import also_named, warn_ignored
from kourou.courier.address_target import AddressTarget
from kourou.courier.calling.foreign_words import TELLING
from kourou.courier.calling.reply import Reply
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.core.target import Target, Tls
from kourou.courier.core.trace import recorder
from kourou.courier.reconnecting import Link
from kourou.courier.serving.remote_methods import remote_methods
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Memory
from kourou.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Self

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
Timeout: TypeAlias = float | datetime.timedelta | None
_KEEP: Any = object()  # the default of an option that stays as it is
_LIST_WITHIN_S = 0.25  # dir() is called by those who wait for a completion


class Client:
    """Calls the methods of a server.

    ``client.step(1)`` calls and waits. ``client.futures.step(1)`` gives a ``concurrent.futures.Future`` at once, which
    may be awaited; cancelling it tells the handler. ``client(1)`` calls the object itself. A method that is a generator
    gives an iterator. Every public attribute but ``futures`` is a method of the server's object; what concerns the
    client itself are functions of ``kourou.courier``: ``close``, ``with_options``, ``address``, ``lane``. ``dir``
    lists the methods: those of ``interface``, and once connected, those that the server tells.

    It connects when first used, may be used by any number of threads, can be pickled, and survives fork. A ``with``
    closes it at its end.

    Args:
        target: ``host:port``, or something that knows where its server is.
        timeout_s: seconds or timedelta until a call raises ``DeadlineExceeded``; None and 0 mean never. For a
            stream, the time to its start and then to each of its items.
        wait_for_ready: wait for a server that is not up yet; False raises ``ServerUnavailable`` at once.
        lane: ``inproc``, ``local`` or ``grpc`` to force one; by default the fastest that both ends share.
        token: the server's secret, when ``target`` is an address; by default the user's own.
        tls: for a server whose gRPC lane speaks TLS: the certificates to trust, in PEM format, or an
            ``ssl.SSLContext`` that knows them and the client's own (such a client cannot be pickled).
        idempotent: calls may run twice, so they are repeated when a connection breaks under them.
        memory: gives memory for each large buffer that comes over the gRPC lane, of the pickle that uses it and the
            buffer's size in bytes; so data can be received where it is to stay. It is called by whichever thread reads,
            ahead of those who take the answers. The memory is written to until the answer is there, or the client is
            closed. By default it is memory that is used again when nobody has it any more. Not kept when pickled.
        interface: the class of the server's object, as far as it is known: what ``dir`` and ``help`` show.
        compress, chunk_tensors, load_balancing_policy, propagate_deadline: Launchpad's, ignored, with a warning.
    """

    @also_named(call_timeout="timeout_s")
    def __init__(  # noqa: PLR0913 - Launchpad's arguments, and ours as keywords
        self,
        target: str | Target,
        compress: bool = False,  # noqa: FBT001, FBT002 - Launchpad's order
        timeout_s: Timeout = None,
        wait_for_ready: bool = True,  # noqa: FBT001, FBT002 - Launchpad's order
        chunk_tensors: bool = False,  # noqa: FBT001, FBT002 - Launchpad's order
        *,
        lane: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        idempotent: bool = False,
        memory: Memory | None = None,
        interface: type | None = None,
        load_balancing_policy: str | None = None,
        propagate_deadline: bool = True,
    ) -> None:
        warn_ignored(
            compress=compress,
            chunk_tensors=chunk_tensors,
            load_balancing_policy=load_balancing_policy is not None,
            propagate_deadline=not propagate_deadline,
        )
        resolved = AddressTarget(target, token, tls) if isinstance(target, str) else target
        self._link = Link(resolved, wait_for_ready=wait_for_ready, lane=lane, tls=tls, memory=memory)
        self._timeout_s = _seconds(timeout_s)
        self._idempotent = idempotent
        self._interface = interface

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # Python's own probes (copy, pickle, IPython …) must not become calls
            raise AttributeError(f"a client has no attribute {name!r}; private methods cannot be called remotely")
        stub = self._stub(name)
        self.__dict__[name] = stub
        return stub

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the remote object itself."""
        return self._stub("__call__")(*args, **kwargs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def __repr__(self) -> str:
        return f"<client of {self._link.target.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        link = self._link
        restore = functools.partial(
            Client,
            timeout_s=self._timeout_s,
            wait_for_ready=link.wait_for_ready,
            lane=link.forced_lane,
            tls=link.tls,
            idempotent=self._idempotent,
        )
        return restore, (link.target,)

    def __dir__(self) -> list[str]:
        return sorted({"futures", *self._names()})

    @property
    def futures(self) -> Futures:
        """The same methods, returning futures."""
        futures = self.__dict__.get("_futures")
        if futures is None:
            futures = self.__dict__.setdefault("_futures", Futures(self))
        return futures  # type: ignore[no-any-return]

    def _names(self) -> Iterable[str]:
        """The methods, as the server tells them if it is connected, else as its class does."""
        if self._link.connection is not None:
            with contextlib.suppress(Exception):  # it may just have ended, or be busy
                names = list_methods(self, timeout_s=_LIST_WITHIN_S)
                return [name for name in names if not name.startswith("_")]
        return (name for name, _ in remote_methods(self._interface)) if self._interface is not None else ()

    def _stub(self, name: str) -> Stub:
        link, timeout_s, idempotent = self._link, self._timeout_s, self._idempotent
        call = link.call

        def stub(*args: Any, **kwargs: Any) -> Any:
            reply = Reply(name, timeout_s)
            if not recorder.on:
                return call(reply, codec.encode_call(args, kwargs, name), idempotent)
            start_ns = time.time_ns()
            try:
                return call(reply, codec.encode_call(args, kwargs, name), idempotent)
            finally:
                recorder.add("call", f"{link.target.name}.{name}", start_ns, reply.call_id)

        def submit(*args: Any, **kwargs: Any) -> Future[Any]:
            reply = Reply(name, timeout_s)
            if recorder.on:
                _record_future(reply, f"{link.target.name}.{name}")
            link.submit(reply, codec.encode_call(args, kwargs, name), idempotent=idempotent)
            return reply

        stub.__name__ = stub.__qualname__ = name
        if self._interface is not None:
            _document(stub, self._interface)
        stub.__dict__.update(TELLING, submit=submit)
        return cast("Stub", stub)


class Stub(Protocol):
    """A method as its callers have it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call and do not wait."""
        ...


class Futures:
    """The methods of a client's server, each returning a future at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Future[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"no attribute {name!r}; private methods cannot be called remotely")
        submit = self._client._stub(name).submit  # noqa: SLF001 - the other half of the same class
        self.__dict__[name] = submit
        return submit

    def __call__(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the remote object itself."""
        return self._client._stub("__call__").submit(*args, **kwargs)  # noqa: SLF001 - see above

    def __dir__(self) -> Iterable[str]:
        return self._client._names()  # noqa: SLF001 - see above


# What can be done with a client itself: methods of it would hide remote ones of their names. Type checkers take a
# client for an object of the class that it calls, so these functions take any object, and look.


@overload
def submit(method: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
@overload
def submit(method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
def submit(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
    """Call a client's method and do not wait: ``submit(client.step, 1)`` is ``client.futures.step(1)``.

    Type checkers know its arguments and its result, which they cannot know of those of ``client.futures``.

    Raises:
        TypeError: not a method of a client.
    """
    try:
        start: Callable[..., Future[Any]] = method.submit  # type: ignore[attr-defined]  # see ``Stub``
    except AttributeError:
        raise TypeError(f"submit takes a client's method, as in submit(client.step, 1); got {shown(method)}") from None
    return start(*args, **kwargs)


def futures(client: object) -> Futures:
    """``client.futures``, which type checkers do not know: ``futures(client).step(1)`` is a ``Future[Any]``.

    Where the method is known when the code is written, ``submit`` tells its arguments and its result as well.
    """
    return _client(client).futures


@contextlib.contextmanager
def closing(client: C) -> Iterator[C]:
    """Close a client at the end of a ``with``, which it can be given to, too; but of that type checkers do not know."""
    try:
        yield client
    finally:
        close(client)


def close(client: object) -> None:
    """Close the connection. Calls in flight end with ``CallCancelled``, and so do later ones."""
    _client(client)._link.close()  # noqa: SLF001 - see above


def with_options(client: C, *, timeout_s: Timeout = _KEEP, idempotent: bool = _KEEP) -> C:
    """The same client over the same connection, with other options for the calls made through it.

    Args:
        client: the client.
        timeout_s: as for a :class:`Client`.
        idempotent: calls may run twice, so they are repeated when the connection breaks under them.
    """
    whole = _client(client)
    view = object.__new__(type(client))
    vars(view).update(
        _link=whole._link,  # noqa: SLF001 - see above
        _timeout_s=whole._timeout_s if timeout_s is _KEEP else _seconds(timeout_s),  # noqa: SLF001 - see above
        _idempotent=whole._idempotent if idempotent is _KEEP else idempotent,  # noqa: SLF001 - see above
        _interface=whole._interface,  # noqa: SLF001 - see above
    )
    return view


def address(client: object) -> str:
    """What is called: the node's name or the server's address."""
    return _client(client)._link.target.name  # noqa: SLF001 - see above


def lane(client: object) -> str | None:
    """The lane in use; None before the first call and after the connection broke."""
    connection = _client(client)._link.connection  # noqa: SLF001 - see above
    return connection.transport.lane if connection is not None else None


def traffic(client: object) -> tuple[int, int]:
    """Calls that were made over the present connection, and how many of them are not answered."""
    connection = _client(client)._link.connection  # noqa: SLF001 - see above
    return (0, 0) if connection is None else (connection.count(), len(connection.unanswered()))


def disconnect(client: object) -> None:
    """Close the client's connection; its next call makes a new one. Calls in flight end with ``ConnectionLost``."""
    _client(client)._link.hang_up()  # noqa: SLF001 - see above


def give_up(client: object, endpoint: Endpoint, after_s: float = 0.0) -> None:
    """Make no more calls to a server that is known to be gone, where a cut network keeps that from showing.

    The next call connects anew, to where the target is by then. Calls in flight end with what the target knows of the
    server's end, unless they are answered within ``after_s`` seconds.
    """
    _client(client)._link.give_up(endpoint, after_s)  # noqa: SLF001 - see above


def list_methods(client: object, timeout_s: Timeout = 10.0) -> list[str]:
    """The methods that the client's server offers, sorted."""
    names: list[str] = with_options(_client(client), timeout_s=timeout_s)._stub(LIST_METHODS)()  # noqa: SLF001 - see above
    return names


def _client(value: object) -> Client:
    if not isinstance(value, Client):
        raise TypeError(f"this takes a client of a CourierNode, got {shown(value)}")
    return value


def _record_future(reply: Reply, name: str) -> None:
    start_ns, node = time.time_ns(), recorder.node()
    reply.add_done_callback(lambda _: recorder.add("future", name, start_ns, reply.call_id, node))


def _document(stub: Callable[..., Any], interface: type) -> None:
    """Give a stub the signature and the docstring of the method that it calls."""
    method = inspect.getattr_static(interface, stub.__name__, None)
    if inspect.isfunction(method):
        signature = inspect.signature(method)
        stub.__doc__ = method.__doc__
        stub.__dict__["__signature__"] = signature.replace(parameters=list(signature.parameters.values())[1:])


def _seconds(timeout_s: Timeout) -> float | None:
    """A time-out in seconds; None when there is none."""
    if timeout_s is None:
        return None
    seconds = timeout_s.total_seconds() if isinstance(timeout_s, datetime.timedelta) else timeout_s
    if not isinstance(seconds, Real) or not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"a time-out is a number of seconds, not negative, or None for none; not {shown(timeout_s)}")
    return float(seconds) or None  # of NumPy's numbers, which no lock takes
