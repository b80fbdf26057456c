"""The server's end of one connection: takes frames, runs handlers, sends answers. The same for every lane."""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kourou.courier import codec, failures
from kourou.courier.calls import CallScope, Peer, call_scope
from kourou.courier.dispatcher import Dispatcher
from kourou.courier.frames import Frame, Kind, make_frame, payload_size
from kourou.courier.methods import Method
from kourou.courier.outflow import AsyncOutflow, Outflow
from kourou.errors import (
    CallCancelled,
    DeadlineExceeded,
    ProtocolError,
    RpcError,
    SerializationError,
    ServerOverloaded,
    StopRequested,
)

if TYPE_CHECKING:
    import asyncio

__all__ = ["RunningCall", "Session"]

_MOST_CREDIT = 1 << 20  # items; more than any window, so a sign of a broken peer


class Session:
    """One connection.

    Args:
        dispatcher: the server.
        peer: who is at the other end.
        send: takes a frame for the client; never raises, because a client that is gone needs no answer.
        is_congested: whether no call shall begin at present; when that is over, ``resume`` is called.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        peer: Peer,
        send: Callable[[Frame], None],
        is_congested: Callable[[], bool] = lambda: False,
    ) -> None:
        self.dispatcher = dispatcher
        self.peer = peer
        self.send = send
        self.is_congested = is_congested
        self._put_off: deque[RunningCall] = deque()
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
        kind, call_id, number, name, _, _ = frame
        if kind != Kind.CALL:
            self._control(kind, call_id, number)
            return None
        if not number >= 0 or call_id in self.calls:  # the first is false for NaN, too
            raise ProtocolError(f"a call with the time-out {number} and the number {call_id}")
        call = RunningCall(self, frame, time.monotonic() + number if number else None)
        dispatcher = self.dispatcher
        try:
            call.method = dispatcher.methods.get(name)
        except RpcError as error:
            call.refuse(error)
            return None
        if dispatcher.stopping:
            call.refuse(CallCancelled(f"{name}: {dispatcher.name} is stopping"))
            return None
        self.calls[call_id] = call
        return call

    def _control(self, kind: int, call_id: int, number: float) -> None:
        """A frame about a call that came before."""
        if kind == Kind.CANCEL:
            call = self.calls.pop(call_id, None)
            if call is not None:
                call.abandon()
                # Nobody waits for this by its number, but the thread whose call another one gave up may sit in a read.
                self.send(Frame(Kind.END, call_id))
        elif kind == Kind.CREDIT:
            call = self.calls.get(call_id)
            if call is not None and call.outflow is not None and 0 <= number < _MOST_CREDIT:
                call.outflow.credit(int(number))
        else:
            raise ProtocolError(f"a client sent a frame of kind {kind}")

    def put_off(self, call: RunningCall) -> None:
        """Let a call begin later."""
        self._put_off.append(call)
        if not self.is_congested():  # that may have been over before the call was put there
            self.resume()

    def resume(self) -> None:
        """Calls may begin again."""
        while self._put_off:
            with contextlib.suppress(IndexError):
                self._put_off.popleft().enqueue()

    def closed(self) -> None:
        """The client is gone: its calls are cancelled."""
        self.dispatcher.close(self)
        self._put_off.clear()
        while self.calls:
            with contextlib.suppress(KeyError):
                _, call = self.calls.popitem()
                call.abandon()


class RunningCall(CallScope):
    """One call from the moment it arrives until its answer is sent."""

    __slots__ = ("body", "buffers", "call_id", "method", "outflow", "session", "since", "task")

    method: Method

    def __init__(self, session: Session, frame: Frame, deadline: float | None) -> None:  # no super(): it would show
        _, self.call_id, _, self.name, self.body, self.buffers = frame
        self.session = session
        self.peer = session.peer
        self.deadline = deadline
        self.outflow: Outflow | AsyncOutflow | None = None
        self.task: asyncio.Task[None] | None = None  # what its coroutine does
        self.since = 0.0  # when its handler began (``time.perf_counter()``); 0 before
        self._cancelled = False
        self._event = None

    def enqueue(self) -> None:
        """Run in the pool, as soon as a thread is free."""
        dispatcher = self.session.dispatcher
        if not dispatcher.pool.submit(self._begin):
            self.fail(ServerOverloaded(f"{self.name}: {dispatcher.name} has {dispatcher.pool.queued} calls waiting"))

    def _begin(self) -> None:
        """In the pool: run, unless the client has to take other answers first."""
        if self.session.is_congested():
            self.session.put_off(self)
        else:
            self.run()

    def run(self, *, borrowed: bool = False) -> None:
        """Call the handler and answer.

        Args:
            borrowed: this is the thread of the caller. What means to end that thread (Ctrl-C, stop) is raised in it.
        """
        if self._cancelled:
            return  # while it waited for a thread
        if self.deadline is not None and self.is_set():
            self.fail(DeadlineExceeded(f"{self.name}: the deadline passed before a thread was free"))
            return
        body, buffers = self.body, self.buffers
        self.body, self.buffers = b"", ()  # what the handler lets go of shall be free at once
        received = len(body) if not buffers and type(body) is bytes else payload_size(body, buffers)
        try:
            args, kwargs = codec.decode_call(body, buffers)
        except SerializationError as error:
            self.fail(error, received=received)
            return
        del body, buffers
        context = self.session.dispatcher.call_context
        scope = call_scope.set(self)
        self.since = start = time.perf_counter()
        try:
            if context is None:
                result = self.method.function(*args, **kwargs)
            else:
                with context():
                    result = self.method.function(*args, **kwargs)
        except BaseException as error:
            self.fail(error, by_handler=True, seconds=time.perf_counter() - start, received=received)
            if borrowed and isinstance(error, KeyboardInterrupt | StopRequested):
                raise
            return
        finally:
            call_scope.reset(scope)
        seconds = time.perf_counter() - start
        if result is not None and self._goes_on(result, start):
            return
        self.answer(result, seconds, received)

    def answer(self, result: object, seconds: float, received: int) -> None:
        """Send what the handler returned."""
        if self.deadline is not None and self.is_set():
            self.fail(DeadlineExceeded(f"{self.name}: finished after its deadline"), seconds=seconds, received=received)
            return
        try:
            body, buffers = codec.encode(result, self.name)
        except SerializationError as error:
            self.fail(error, seconds=seconds, received=received)
            return
        session = self.session
        if session.calls.pop(self.call_id, None) is not self:
            return  # cancelled, or failed by a server that stops
        session.send(make_frame((Kind.RESULT, self.call_id, 0.0, "", body, buffers)))
        sent = len(body) if not buffers and type(body) is bytes else payload_size(body, buffers)
        self.method.record(seconds, failed=False, bytes_in=received, bytes_out=sent)

    def fail(self, error: BaseException, *, by_handler: bool = False, seconds: float = 0.0, received: int = 0) -> None:
        """Answer with an error, unless the call has its answer."""
        if self.session.calls.pop(self.call_id, None) is not self:
            return
        sent = self.refuse(error, by_handler=by_handler)
        self.method.record(seconds, failed=True, bytes_in=received, bytes_out=sent)

    def refuse(self, error: BaseException, *, by_handler: bool = False) -> int:
        """Send an error; the size of its description in bytes."""
        node = self.session.dispatcher.name
        failure = failures.describe(error, node=node, method=self.name, raised_by_handler=by_handler)
        body, buffers = codec.encode(tuple(failure), "an exception")
        self.session.send(Frame(Kind.FAILURE, self.call_id, 0.0, "", body, buffers))
        return payload_size(body, buffers)

    def abandon(self) -> None:
        """The caller does not want an answer any more."""
        self.set()
        self.body, self.buffers = b"", ()  # it may wait for a thread for long
        if self.outflow is not None:
            self.outflow.cancel()
        if self.task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    def _goes_on(self, result: object, start: float) -> bool:
        """Whether the handler has only begun: it returned a coroutine, a generator or a future."""
        if isinstance(result, Future):
            result.add_done_callback(functools.partial(self._answer_later, start))
        elif inspect.iscoroutine(result):
            self._await(result, start)
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            self.outflow = Outflow(self, result) if inspect.isgenerator(result) else AsyncOutflow(self, result)
            self.session.send(Frame(Kind.STREAM, self.call_id))
            self.outflow.start()
            if self._cancelled:  # before there was anything to cancel
                self.outflow.cancel()
        else:
            return False
        return True

    def _await(self, coroutine: Any, start: float) -> None:
        """Let the event loop finish a coroutine handler; no thread waits for it."""

        async def answered() -> None:
            try:
                result = await coroutine
            except BaseException as error:  # noqa: BLE001 - SystemExit, too, which would end the loop
                self._end_coroutine(error, time.perf_counter() - start)
            else:
                self.answer(result, time.perf_counter() - start, 0)

        self.spawn(answered(), coroutine.close)

    def spawn(self, work: Coroutine[Any, Any, None], tidy: Callable[[], None] = lambda: None) -> None:
        """Run a coroutine on the event loop, as part of this call, and be cancelled with it.

        Args:
            work: what to run.
            tidy: called in the end, also if the work was cancelled before it began.
        """
        dispatcher = self.session.dispatcher
        loop = dispatcher.event_loop()
        context = dispatcher.call_context or contextlib.nullcontext

        async def scoped() -> None:
            call_scope.set(self)
            with context():
                await work

        def begin() -> None:
            task = self.task = loop.create_task(scoped())
            dispatcher.tasks.add(task)  # the loop itself would let go of it
            task.add_done_callback(end)
            if self._cancelled:  # before there was anything to cancel
                task.cancel()

        def end(task: asyncio.Task[None]) -> None:
            dispatcher.tasks.discard(task)
            work.close()
            tidy()

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop has ended: the server is stopping, and answers all calls itself
            work.close()
            tidy()

    def _end_coroutine(self, error: BaseException, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - slow to import, and few servers have coroutines

        if isinstance(error, asyncio.CancelledError):
            self.fail(CallCancelled(f"{self.name}: cancelled by its server"), seconds=seconds)
        else:
            self.fail(error, by_handler=True, seconds=seconds)

    def _answer_later(self, start: float, future: Future[Any]) -> None:
        """The future that a handler returned is done. No thread has waited for it."""
        seconds = time.perf_counter() - start
        if future.cancelled():
            self.fail(CallCancelled(f"{self.name}: cancelled by its server"), seconds=seconds)
            return
        error = future.exception()
        if error is not None:
            self.fail(error, by_handler=True, seconds=seconds)
        else:
            self.answer(future.result(), seconds, 0)
