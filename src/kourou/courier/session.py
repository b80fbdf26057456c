"""The server's end of one connection: takes frames, runs handlers, sends answers. The same for every lane."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from kourou.courier import codec, failures
from kourou.courier.calls import Cancellation, Peer, call_scope
from kourou.courier.frames import Body, Frame, Kind, body_size
from kourou.courier.methods import Method, MethodTable
from kourou.courier.outflow import Outflow
from kourou.courier.workers import WorkerPool
from kourou.errors import (
    CallCancelled,
    DeadlineExceeded,
    ProtocolError,
    RpcError,
    SerializationError,
    ServerOverloaded,
    StopRequested,
)

__all__ = ["Dispatcher", "RunningCall", "Session"]


class Dispatcher:
    """What all connections of a server share.

    Args:
        name: the server's, for error messages.
        methods: what can be called.
        pool: runs the handlers.
        call_context: entered around every handler.
    """

    def __init__(
        self,
        name: str,
        methods: MethodTable,
        pool: WorkerPool,
        call_context: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.name = name
        self.methods = methods
        self.pool = pool
        self.call_context = call_context or contextlib.nullcontext
        self.stopping = False
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, session: Session) -> None:
        """A connection came."""
        with self._lock:
            self._sessions.add(session)

    def close(self, session: Session) -> None:
        """A connection is gone."""
        with self._lock:
            self._sessions.discard(session)

    def running(self) -> list[RunningCall]:
        """The calls that are not answered yet."""
        with self._lock:
            sessions = list(self._sessions)
        return [call for session in sessions for call in list(session.calls.values())]

    def fail_all(self, reason: str) -> None:
        """Answer every open call with ``CallCancelled`` and tell the handlers; they may run on, unheard."""
        for call in self.running():
            call.cancelled.set()
            call.fail(CallCancelled(f"{call.name} of {self.name}: {reason}"))
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs coroutine handlers; started when the first one is called."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="kourou-asyncio", daemon=True).start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


class Session:
    """One connection.

    Args:
        dispatcher: the server.
        peer: who is at the other end.
        send: takes a frame for the client; never raises, because a client that is gone needs no answer.
    """

    def __init__(self, dispatcher: Dispatcher, peer: Peer, send: Callable[[Frame], None]) -> None:
        self.dispatcher = dispatcher
        self.peer = peer
        self.send = send
        self.calls: dict[int, RunningCall] = {}
        dispatcher.open(self)

    def handle(self, frame: Frame) -> None:
        """Act on a frame; handlers run in the pool.

        Raises:
            ProtocolError: a client does not send such frames.
        """
        call = self.accept(frame)
        if call is not None:
            call.enqueue()

    def accept(self, frame: Frame) -> RunningCall | None:
        """Act on a frame, except that a call is returned to be run: by ``call.run()`` here and now, or ``enqueue``."""
        kind = frame.kind
        if kind == Kind.CALL:
            return self._begin(frame)
        if kind == Kind.CANCEL:
            call = self.calls.pop(frame.call_id, None)
            if call is not None:
                call.abandon()
        elif kind == Kind.CREDIT:
            call = self.calls.get(frame.call_id)
            if call is not None and call.outflow is not None:
                call.outflow.credit(int(frame.number))
        else:
            raise ProtocolError(f"a client sent a frame of kind {kind}")
        return None

    def closed(self) -> None:
        """The client is gone: its calls are cancelled."""
        self.dispatcher.close(self)
        while self.calls:
            with contextlib.suppress(KeyError):
                _, call = self.calls.popitem()
                call.abandon()

    def _begin(self, frame: Frame) -> RunningCall | None:
        if not frame.number >= 0 or frame.call_id in self.calls:  # the first is false for NaN, too
            raise ProtocolError(f"a call with the time-out {frame.number} and the number {frame.call_id}")
        deadline = time.monotonic() + frame.number if frame.number else None
        call = RunningCall(self, frame, deadline)
        try:
            call.method = self.dispatcher.methods.get(frame.method)
        except RpcError as error:
            call.refuse(error)
            return None
        if self.dispatcher.stopping:
            call.refuse(CallCancelled(f"{frame.method}: {self.dispatcher.name} is stopping"))
            return None
        self.calls[frame.call_id] = call
        return call


class RunningCall:
    """One call from the moment it arrives until its answer is sent."""

    __slots__ = ("body", "buffers", "call_id", "cancelled", "method", "name", "outflow", "received", "session")

    method: Method

    def __init__(self, session: Session, frame: Frame, deadline: float | None) -> None:
        self.session = session
        self.call_id = frame.call_id
        self.name = frame.method
        self.body: Body = frame.body
        self.buffers = frame.buffers
        self.received = body_size(frame.body) + sum(map(len, frame.buffers))
        self.cancelled = Cancellation(deadline)
        self.outflow: Outflow | None = None

    def enqueue(self) -> None:
        """Run in the pool, as soon as a thread is free."""
        dispatcher = self.session.dispatcher
        if not dispatcher.pool.submit(self.run):
            self.fail(ServerOverloaded(f"{self.name}: {dispatcher.name} has {dispatcher.pool.queued} calls waiting"))

    def run(self, *, borrowed: bool = False) -> None:
        """Call the handler and answer.

        Args:
            borrowed: this is the thread of the caller. What means to end that thread (Ctrl-C, stop) is raised in it.
        """
        if self.cancelled.is_set():
            self.fail(DeadlineExceeded(f"{self.name}: the deadline passed before a thread was free"))
            return
        scope = call_scope.set((self.name, self.cancelled, self.session.peer))
        method = self.method
        method.running += 1
        start = time.perf_counter()
        result: object = None
        error: BaseException | None = None
        unreadable = False
        try:
            try:
                args, kwargs = codec.decode_call(self.body, self.buffers)
            except SerializationError:
                unreadable = True
                raise
            finally:
                self.body, self.buffers = b"", ()
            with self.session.dispatcher.call_context():
                result = method.function(*args, **kwargs)
        except BaseException as raised:  # SystemExit, too: a handler must not end the server
            error = raised
        finally:
            method.running -= 1
            call_scope.reset(scope)
        seconds = time.perf_counter() - start
        if error is not None:
            self.fail(error, by_handler=not unreadable, seconds=seconds)
            if borrowed and isinstance(error, KeyboardInterrupt | StopRequested):
                raise error
        elif inspect.iscoroutine(result):
            self._await(result, start)
        elif inspect.isgenerator(result):
            self.outflow = Outflow(self, result)
            self.session.send(Frame(Kind.STREAM, self.call_id))
            self.outflow.start()
        else:
            self.answer(result, seconds)

    def answer(self, result: object, seconds: float) -> None:
        """Send what the handler returned."""
        if self.cancelled.is_set():
            self.fail(DeadlineExceeded(f"{self.name}: finished after its deadline"), seconds=seconds)
            return
        try:
            body, buffers = codec.encode(result, f"the result of {self.name}")
        except SerializationError as error:
            self.fail(error, by_handler=False, seconds=seconds)
            return
        if self.session.calls.pop(self.call_id, None) is not self:
            return  # cancelled, or failed by a server that stops
        self.session.send(Frame(Kind.RESULT, self.call_id, 0.0, "", body, buffers))
        sent = body_size(body) + sum(map(len, buffers))
        self.method.record(seconds, failed=False, bytes_in=self.received, bytes_out=sent)

    def fail(self, error: BaseException, *, by_handler: bool = False, seconds: float = 0.0) -> None:
        """Answer with an error, unless the call has its answer."""
        if self.session.calls.pop(self.call_id, None) is not self:
            return
        sent = self.refuse(error, by_handler=by_handler)
        self.method.record(seconds, failed=True, bytes_in=self.received, bytes_out=sent)

    def refuse(self, error: BaseException, *, by_handler: bool = False) -> int:
        """Send an error; the size of its description in bytes."""
        node = self.session.dispatcher.name
        failure = failures.describe(error, node=node, method=self.name, raised_by_handler=by_handler)
        body, buffers = codec.encode(tuple(failure), "an exception")
        self.session.send(Frame(Kind.FAILURE, self.call_id, 0.0, "", body, buffers))
        return body_size(body)

    def abandon(self) -> None:
        """The caller does not want an answer any more."""
        self.cancelled.set()
        if self.outflow is not None:
            self.outflow.cancel()

    def _await(self, coroutine: Any, start: float) -> None:  # noqa: ANN401 - a coroutine of anything
        """Let the event loop finish a coroutine handler; no thread waits for it."""

        async def scoped() -> Any:  # noqa: ANN401
            call_scope.set((self.name, self.cancelled, self.session.peer))
            with self.session.dispatcher.call_context():
                return await coroutine

        def done(future: Any) -> None:  # noqa: ANN401 - concurrent.futures.Future
            seconds = time.perf_counter() - start
            error = future.exception()
            if error is not None:
                self.fail(error, by_handler=True, seconds=seconds)
            else:
                self.answer(future.result(), seconds)

        asyncio.run_coroutine_threadsafe(scoped(), self.session.dispatcher.event_loop()).add_done_callback(done)
