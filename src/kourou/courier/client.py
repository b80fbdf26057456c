"""The client: an object whose attributes are the methods of a node."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

from kourou.courier import codec
from kourou.courier.address_target import AddressTarget
from kourou.courier.endpoint import Endpoint
from kourou.courier.link import Link
from kourou.courier.protocol import LIST_METHODS
from kourou.courier.reply import Reply
from kourou.courier.target import Target, Tls
from kourou.courier.trace import traced
from kourou.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Client",
    "address",
    "close",
    "disconnect",
    "give_up",
    "lane",
    "list_methods",
    "with_options",
]

Timeout: TypeAlias = float | datetime.timedelta | None
_KEEP: Any = object()  # the default of an option that stays as it is


class Client:
    """Calls the methods of a server.

    ``client.step(1)`` calls and waits. ``client.futures.step(1)`` gives a ``concurrent.futures.Future`` at once, which
    may be awaited; cancelling it tells the handler. ``client(1)`` calls the object itself. A method that is a generator
    gives an iterator. Every public attribute but ``futures`` is a method of the server's object; what concerns the
    client itself are functions of ``kourou.courier``: ``close``, ``with_options``, ``address``, ``lane``.

    It connects when first used, may be used by any number of threads, can be pickled, and survives fork. A ``with``
    closes it at its end.

    Args:
        target: ``host:port``, or something that knows where its server is.
        call_timeout: seconds or timedelta until a call raises ``DeadlineExceeded``; None and 0 mean never. For a
            stream, the time to its start and then to each of its items.
        wait_for_ready: wait for a server that is not up yet; False raises ``ServerUnavailable`` at once.
        lane: ``inproc``, ``local`` or ``grpc`` to force one; by default the fastest that both ends share.
        token: the server's secret, when ``target`` is an address; by default the user's own.
        tls: for a server whose gRPC lane speaks TLS: the certificates to trust, in PEM format, or an
            ``ssl.SSLContext`` that knows them and the client's own (such a client cannot be pickled).
        idempotent: calls may run twice, so they are repeated when a connection breaks under them.
        compress, chunk_tensors, load_balancing_policy, propagate_deadline: accepted from Launchpad and ignored.
    """

    def __init__(  # noqa: PLR0913 - Launchpad's arguments, and ours as keywords
        self,
        target: str | Target,
        compress: bool = False,  # noqa: FBT001, FBT002 - Launchpad's order
        call_timeout: Timeout = None,
        wait_for_ready: bool = True,  # noqa: FBT001, FBT002 - Launchpad's order
        chunk_tensors: bool = False,  # noqa: FBT001, FBT002 - Launchpad's order
        *,
        lane: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        idempotent: bool = False,
        load_balancing_policy: str | None = None,
        propagate_deadline: bool = True,
    ) -> None:
        del compress, chunk_tensors, load_balancing_policy, propagate_deadline
        resolved = AddressTarget(target, token, tls) if isinstance(target, str) else target
        self._link = Link(resolved, wait_for_ready=wait_for_ready, lane=lane, tls=tls)
        self._timeout_s = _seconds(call_timeout)
        self._idempotent = idempotent

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
            call_timeout=self._timeout_s,
            wait_for_ready=link.wait_for_ready,
            lane=link.forced_lane,
            tls=link.tls,
            idempotent=self._idempotent,
        )
        return restore, (link.target,)

    def __dir__(self) -> list[str]:
        return ["futures"]

    @property
    def futures(self) -> Futures:
        """The same methods, returning futures."""
        futures = self.__dict__.get("_futures")
        if futures is None:
            futures = self.__dict__.setdefault("_futures", Futures(self))
        return futures  # type: ignore[no-any-return]

    def _stub(self, name: str) -> Callable[..., Any]:
        call, timeout_s, idempotent = self._link.call, self._timeout_s, self._idempotent

        def stub(*args: Any, **kwargs: Any) -> Any:
            return call(Reply(name, timeout_s), codec.encode_call(args, kwargs, name), idempotent)

        stub.__name__ = stub.__qualname__ = name
        return traced(f"{name} of {self._link.target.name}", "call", stub)

    def _submit(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        payload = codec.encode_call(args, kwargs, name)
        reply = Reply(name, self._timeout_s)
        self._link.submit(reply, payload, idempotent=self._idempotent)
        return reply


class Futures:
    """The methods of a client's server, each returning a future at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Future[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"no attribute {name!r}; private methods cannot be called remotely")
        submit = self._client._submit  # noqa: SLF001 - the other half of the same class

        def stub(*args: Any, **kwargs: Any) -> Future[Any]:
            return submit(name, args, kwargs)

        stub.__name__ = stub.__qualname__ = name
        self.__dict__[name] = stub
        return stub

    def __call__(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the remote object itself."""
        return self._client._submit("__call__", args, kwargs)  # noqa: SLF001


# What can be done with a client itself: methods of it would hide remote ones of their names.


def close(client: Client) -> None:
    """Close the connection. Calls in flight end with ``CallCancelled``, and so do later ones."""
    client._link.close()  # noqa: SLF001 - see above


def with_options(client: Client, *, timeout_s: Timeout = _KEEP, idempotent: bool = _KEEP) -> Client:
    """The same client over the same connection, with other options for the calls made through it.

    Args:
        client: the client.
        timeout_s: as ``call_timeout``.
        idempotent: calls may run twice, so they are repeated when the connection breaks under them.
    """
    view = object.__new__(type(client))
    view._link = client._link  # noqa: SLF001 - see above
    view._timeout_s = client._timeout_s if timeout_s is _KEEP else _seconds(timeout_s)  # noqa: SLF001 - see above
    view._idempotent = client._idempotent if idempotent is _KEEP else idempotent  # noqa: SLF001 - see above
    return view


def address(client: Client) -> str:
    """What is called: the node's name or the server's address."""
    return client._link.target.name  # noqa: SLF001 - see above


def lane(client: Client) -> str | None:
    """The lane in use; None before the first call and after the connection broke."""
    connection = client._link.connection  # noqa: SLF001 - see above
    return connection.wire.lane if connection is not None else None


def disconnect(client: Client) -> None:
    """Close the client's connection; its next call makes a new one. Calls in flight end with ``ConnectionLost``."""
    client._link.hang_up()  # noqa: SLF001 - see above


def give_up(client: Client, endpoint: Endpoint) -> None:
    """End the connection to a server that is known to be gone, where a cut network keeps that from showing.

    Calls in flight end with what the target knows of the server's end.
    """
    client._link.give_up(endpoint)  # noqa: SLF001 - see above


def list_methods(client: Client, timeout_s: Timeout = 10.0) -> list[str]:
    """The methods that the client's server offers, sorted."""
    names: list[str] = with_options(client, timeout_s=timeout_s)._stub(LIST_METHODS)()  # noqa: SLF001 - see above
    return names


def _seconds(timeout: Timeout) -> float | None:
    """A time-out in seconds; None when there is none."""
    seconds = timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else timeout
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise ValueError(f"a time-out is a number of seconds, not negative; not {shown(timeout)}")
    return seconds or None
