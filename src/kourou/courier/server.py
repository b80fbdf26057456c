"""The server: functions under names, on every lane that a client may come by."""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from kourou.arguments import warn_ignored
from kourou.courier.core.endpoint import Endpoint, host_id
from kourou.courier.core.protocol import LIST_METHODS
from kourou.courier.core.token import user_token
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.handlers import Handlers
from kourou.courier.serving.methods import MethodMetrics, MethodTable, is_hidden
from kourou.courier.serving.reports import CallReport, ServerReport
from kourou.courier.serving.starvation import StarvationMonitor
from kourou.courier.serving.workers import WorkerPool
from kourou.errors import CallCancelled, RpcError, ServerOverloaded, ServerUnavailable
from kourou.shown import shown

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

    from kourou.courier.lanes.grpc.server import GrpcListener
    from kourou.courier.lanes.inproc import InprocListener
    from kourou.courier.lanes.local.server import LocalListener
    from kourou.courier.lanes.loop.event_loop import EventLoop

_THREADS = 16
_GRACE_S = 1.0  # handlers that are nearly done may finish; longer, and stopping a program becomes noticeable
_FLUSH_S = 0.5  # how long the last answers may take to leave
_POLL_S = 0.005
_WILDCARDS = {"0.0.0.0", "::", "[::]"}  # noqa: S104 - recognised, not bound


class Server:
    """Answers remote calls.

    Args:
        name: what error messages call it; its address by default.
        port: of the gRPC lane; None and 0 let the system choose one that is free.
        thread_pool_size: handlers that run at the same time, never more. By default 16; more, up to 1,024, while all of
            them wait and calls are queued, as handlers do that wait for other calls.
        host: the address to listen on. Anything but loopback lets other hosts connect.
        token: the secret that clients have to show; by default the user's own.
        max_queue: calls that may wait for a thread before further ones fail with ``ServerOverloaded``.
        socket_dir: a private folder for the local lane's socket; None makes one.
        call_context: entered around every handler.
        tls: for the gRPC lane: an ``ssl.SSLContext`` of ``PROTOCOL_TLS_SERVER`` with the server's certificate loaded.
            With its ``verify_mode`` CERT_REQUIRED, clients have to show certificates, too.
        refusal: makes the error, of a text, for calls that it does not answer since it stops; where that is None, they
            end as its connections do, and clients find out why.

    Raises:
        ValueError: a port or a number of threads or calls that is none.
    """

    def __init__(  # noqa: PLR0913 - Launchpad's arguments, and ours as keywords
        self,
        name: str | None = None,
        port: int | None = None,
        thread_pool_size: int | None = None,
        *,
        host: str = "127.0.0.1",
        token: str | None = None,
        max_queue: int = 100_000,
        socket_dir: str | None = None,
        call_context: Callable[[], AbstractContextManager[object]] | None = None,
        tls: ssl.SSLContext | None = None,
        refusal: Callable[[str], RpcError | None] = CallCancelled,
    ) -> None:
        self._name = name
        self._host = host
        if port is not None and not (isinstance(port, int) and 0 <= port < 1 << 16):
            raise ValueError(f"port is a whole number from 0 to 65535, or None, got {shown(port)}")
        self._asked_port = port or 0
        self._given_token = token
        self._socket_dir = socket_dir
        self._tls = tls
        self._methods = MethodTable()
        size = _THREADS if thread_pool_size is None else thread_pool_size
        self._pool = WorkerPool(size, max_queue, f"kourou-{name or 'server'}")
        self._handlers = Handlers(name or "the server", self._methods, self._pool, call_context)
        self._dispatcher = Dispatcher(self._handlers, refusal)
        self._starvation = StarvationMonitor(
            lambda: self._handlers.name, self._pool, self._dispatcher.running, may_grow=thread_pool_size is None
        )
        self._pool.on_wait = self._starvation.wake
        self._server_id = secrets.token_hex(16)
        self._endpoint: Endpoint | None = None
        self._event_loop: EventLoop | None = None
        self._grpc: GrpcListener | None = None
        self._inproc: InprocListener | None = None
        self._local: LocalListener | None = None
        self._healthy = True
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._methods.bind(LIST_METHODS, self.list_methods)

    def __enter__(self) -> Self:
        if not self.has_started:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self._endpoint.grpc if self._endpoint is not None else "not started"
        return f"<server {self._name or ''} at {where}>".replace("  ", " ")

    # -- methods ----------------------------------------------------------------------------------------------

    def bind(
        self,
        method: str,
        function: Callable[..., Any],
        is_priority: bool = False,  # noqa: FBT001, FBT002 - Launchpad's order
    ) -> None:
        """Answer calls of ``method`` with ``function``; replaces an earlier one at once.

        A function bound to ``*`` answers whatever is not bound. ``is_priority`` is ignored, with a warning.
        """
        warn_ignored(is_priority=is_priority)
        self._methods.bind(method, function)

    def bind_object(self, instance: object) -> None:
        """Bind all public methods of an object, and the object itself if it can be called. Evaluates no properties."""
        self._methods.bind_object(instance)

    def unbind(self, method: str) -> None:
        """Answer calls of ``method`` no more.

        Raises:
            UnknownMethod: it is not bound.
        """
        self._methods.unbind(method)

    def list_methods(self) -> list[str]:
        """The names that can be called, sorted."""
        return [name for name in self._methods.names() if not is_hidden(name)]

    def metrics(self) -> Mapping[str, MethodMetrics]:
        """What happened to each method so far."""
        return {name: metrics for name, metrics in self._dispatcher.metrics().items() if name != LIST_METHODS}

    def report(self) -> ServerReport:
        """What is not answered, and what it waits for."""
        metrics = self.metrics()
        answered = {name: one for name, one in metrics.items() if not is_hidden(name)}
        now = time.perf_counter()
        calls = [call for call in self._dispatcher.running() if not is_hidden(call.name)]
        return ServerReport(
            answered=sum(one.calls for one in answered.values()),
            usual_s={name: one.seconds / one.calls for name, one in answered.items() if one.calls},
            threads=self._pool.size,
            queued=self._pool.queued,
            calls=tuple(CallReport(method=call.name, for_s=now - call.since if call.since else None) for call in calls),
            batches=self._methods.batches(),
        )

    def run_as_call(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function as the handlers of calls run: in a thread of the pool, or a coroutine function on their loop.

        Raises:
            ServerOverloaded: the queue is full.
        """
        if inspect.iscoroutinefunction(function):
            import asyncio  # noqa: PLC0415 - slow to import, and few servers have coroutines

            return asyncio.run_coroutine_threadsafe(function(*args), self._handlers.event_loop())
        future = self._pool.run(function, *args)
        if future.cancelled():
            raise ServerOverloaded(f"{self._handlers.name} {self._pool.refusal}")
        return future

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen on every lane. When it returns, clients may come.

        Raises:
            ValueError: it was started before.
            LaunchError: the port is taken.
        """
        from kourou.courier.lanes.grpc.server import GrpcListener  # noqa: PLC0415 - gRPC is slow to import
        from kourou.courier.lanes.inproc import InprocListener  # noqa: PLC0415 - goes with it
        from kourou.courier.lanes.loop.event_loop import EventLoop  # noqa: PLC0415 - goes with gRPC

        with self._lock, contextlib.ExitStack() as undo:  # all of it, or nothing is left open
            if self.has_started:
                raise ValueError("Server already started")
            token = self.token
            loop = EventLoop(self._pool)
            undo.callback(loop.stop)
            remote = GrpcListener(
                loop,
                self._dispatcher,
                host=self._host,
                port=self._asked_port,
                token=token,
                tls=self._tls,
                folder=self._socket_dir,
                describe=lambda: self.endpoint,
            )
            undo.callback(remote.stop)
            remote.set_healthy(healthy=self._healthy)
            local = _local_listener(loop, self._dispatcher, token, self._socket_dir)
            if local is not None:
                undo.callback(local.stop)
            endpoint = self._endpoint_of(remote, local)
            if self._name is None:
                self._handlers.name = endpoint.grpc
            self._inproc = InprocListener(self._dispatcher, endpoint, token)
            self._event_loop, self._grpc, self._local, self._endpoint = loop, remote, local, endpoint
            undo.pop_all()

    def _endpoint_of(self, remote: GrpcListener, local: LocalListener | None) -> Endpoint:
        return Endpoint(
            server_id=self._server_id,
            pid=os.getpid(),
            host_id=host_id(),
            grpc=f"{self._advertised_host()}:{remote.port}",
            local=local.path if local is not None else None,
        )

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """Refuse new calls, give those that run ``grace_s`` seconds, fail the rest with ``CallCancelled``, and close.

        A handler that never returns does not hold this up: its thread is left behind and ends with the process.

        Raises:
            ValueError: it was never started.
        """
        with self._lock:
            if self._grpc is None or self._inproc is None or self._event_loop is None:
                raise ValueError("Server not started yet")
            if self._stopped.is_set():
                return
            self._dispatcher.stopping = True
            deadline = time.monotonic() + grace_s
            while self._dispatcher.running() and time.monotonic() < deadline:
                time.sleep(_POLL_S)  # calls of all lanes and threads: there is no one thing to wait on
            self._dispatcher.fail_all("the server stopped")
            self._methods.close()
            self._pool.stop()
            self._starvation.stop()
            self._inproc.stop()
            if self._local is not None:
                self._local.stop()
            self._event_loop.stop(_FLUSH_S)
            self._grpc.stop()
            self._stopped.set()

    def join(self) -> None:
        """Wait until the server has stopped.

        Raises:
            ValueError: it was never started.
        """
        if not self.has_started:
            raise ValueError("Server not started")
        self._stopped.wait()

    def set_is_healthy(self, is_healthy: bool) -> None:  # noqa: FBT001 - Launchpad's signature
        """What the standard health service answers; True at first."""
        self._healthy = is_healthy
        if self._grpc is not None:
            self._grpc.set_healthy(healthy=is_healthy)

    # -- facts ------------------------------------------------------------------------------------------------

    @property
    def has_started(self) -> bool:
        """Whether ``start`` was called."""
        return self._grpc is not None

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens.

        Raises:
            ServerUnavailable: it was not started; only then does it have a port.
        """
        if self._endpoint is None:
            raise ServerUnavailable("the server was not started, so it listens nowhere yet")
        return self._endpoint

    @property
    def address(self) -> str:
        """``host:port`` of the gRPC lane."""
        return self.endpoint.grpc

    @property
    def port(self) -> int:
        """The port of the gRPC lane."""
        return int(self.address.rpartition(":")[2])

    @property
    def token(self) -> str:
        """What clients have to show."""
        if self._given_token is None:
            self._given_token = user_token()
        return self._given_token

    def _advertised_host(self) -> str:
        if self._host in _WILDCARDS:
            import socket  # noqa: PLC0415 - only for servers that listen everywhere

            return socket.gethostname()
        return self._host

    # Launchpad's names for the same things.
    Bind = bind
    Unbind = unbind
    Start = start
    Stop = stop
    Join = join
    SetIsHealthy = set_is_healthy


def _local_listener(loop: EventLoop, dispatcher: Dispatcher, token: str, folder: str | None) -> LocalListener | None:
    """The local lane, where the system has what it needs (Linux: epoll, memfd, eventfd)."""
    if sys.platform != "linux":
        return None
    from kourou.courier.lanes.local.server import LocalListener  # noqa: PLC0415 - exists on Linux only

    return LocalListener(loop, dispatcher, token, folder)
