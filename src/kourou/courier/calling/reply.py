"""The future of one call.

A ``concurrent.futures.Future`` in every respect, but cheaper to make: most futures are asked for their result by one
thread and nothing else, so what a real one is made of is not there until somebody looks for it. Then it is completed
like any other future, by the public methods of its class.

The answer is unpickled by whoever takes it, and without a lock: unpickling runs code of the user's, which may take its
time, wait for others, or never end. Two threads that ask at the same moment both unpickle, and what the first one got
is the answer.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kourou import cpython
from kourou.courier.wire import codec, failures
from kourou.courier.wire.frames import Frame, Kind
from kourou.errors import DeadlineExceeded, RpcError
from kourou.waits import PATIENCE_S, Blocked, waits_in

if TYPE_CHECKING:
    import asyncio

    from kourou.courier.calling.awaiting import LoopReader


class ReplySource(Protocol):
    """Where an answer comes from: a connection, as its replies see it."""

    name: str
    """The server's."""

    def wait(self, reply: Reply, until: float | None) -> None:
        """Wait for news about ``reply``, until ``until`` at most (``time.monotonic()``); may return early."""

    def watch(self) -> None:
        """Somebody relies on being told: see to it that somebody reads, though nobody waits."""

    def read_available(self) -> bool:
        """Take in the answers that are here already, without waiting. False when another thread is at it."""
        ...

    def withdraw(self, reply: Reply) -> bool:
        """No answer to a call is wanted any more. False when it is here."""
        ...

    def recall(self, reply: Reply) -> None:
        """Tell the server that a call was withdrawn."""

    def loop_reader(self, loop: asyncio.AbstractEventLoop) -> LoopReader:
        """What lets an event loop read, while tasks of it await answers."""
        ...

    def warn_unanswered(self, method: str) -> None:
        """A call without a time-out has been waiting for its answer for some time: say so, once for each method."""


class _Outcome(NamedTuple):
    """How a call ended."""

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False


_make_outcome: Callable[[tuple[Any, BaseException | None, bool]], _Outcome]
_make_outcome = functools.partial(tuple.__new__, _Outcome)  # three times faster than the class
_CANCELLED = _Outcome(cancelled=True)
_FIELDS = frozenset(cpython.future_fields(Future()))  # what a future looks for in itself


class Reply(Future[Any]):
    """The answer to a call, once it comes."""

    # Defaults of a fresh future, as class attributes: setting them one by one would double the cost of a call.
    _end: Frame | _Outcome | None = None  # set once, by whoever is first: what came, not unpickled yet, or what became
    gate: Any = None  # a lock that a waiting thread sleeps on; released when there is news
    waits = True  # there is no answer, as far as anybody has read
    watched = False  # somebody waits for it by a callback or a condition: it has to be completed without their help
    call_id = 0
    server = ""  # its name, while there is no connection to it yet
    connection: ReplySource | None = None  # where the answer comes from, once the call was sent
    given_up = False  # nobody wants the answer any more
    on_lost: Callable[[Reply, Exception], bool] | None = None  # takes the call over when its connection broke

    def __init__(self, method: str, timeout_s: float | None) -> None:  # no super().__init__: see ``__getattr__``
        self.method = method
        self.timeout_s = timeout_s
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def __repr__(self) -> str:
        return f"<future of {self.method}, {'waiting' if self.waits else 'done'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"it is the future of {self.method}, which only its own process can wait for; send its result()"
        )

    @waits_in(lambda here: _described(here["self"], here["since"]))
    def __await__(self) -> Generator[Any, None, Any]:
        if self.waits:
            since = time.monotonic()  # noqa: F841 - for those who look what is waited for
            yield from self._await_end().__await__()
        if self.cancelled():
            import asyncio  # noqa: PLC0415 - whoever awaits has imported it

            raise asyncio.CancelledError
        return self.result()

    def __aiter__(self) -> AsyncIterator[Any]:
        """The items of a generator, without awaiting the call first."""
        from kourou.courier.calling.awaiting import Items  # noqa: PLC0415 - it imports asyncio, which is slow

        return Items(self.method, self)

    async def _await_end(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever awaits has imported it

        from kourou.courier.calling.awaiting import LoopGate, news  # noqa: PLC0415 - it imports asyncio, which is slow

        connection = self.connection
        gate = LoopGate()
        if connection is None or self.__dict__.setdefault("gate", gate) is not gate:
            with contextlib.suppress(Exception):  # it is the call's, and asked for again
                await asyncio.wrap_future(self)  # it waits for a connection, or somebody else waits for it, too
            return
        left_s = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

        def on_time() -> None:
            if left_s is None:
                connection.warn_unanswered(self.method)
            else:
                self.expire()

        reader = connection.loop_reader(asyncio.get_running_loop())
        try:
            await news(gate, reader, lambda: not self.waits, PATIENCE_S if left_s is None else left_s, on_time)
        except BaseException:  # the task was cancelled, most likely: the answer is not wanted any more
            self.cancel()
            raise

    # -- what concurrent.futures looks at ------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: somebody looks at it as at a future with a condition and callbacks."""
        if name not in _FIELDS:
            raise AttributeError(f"a future has no attribute {name!r}")
        fields = self.__dict__
        for field, value in cpython.future_fields(Future()).items():
            fields.setdefault(field, value)
        self.watched = True
        if not self.waits:  # looked at after ``watched`` was set: whoever ends the call looks the other way round
            self.notify()
        elif self.connection is not None:
            self.connection.watch()  # from now on somebody must read even if nobody calls result()
        return fields[name]

    def notify(self) -> None:
        """It has ended: complete the future as which somebody looks at it, which runs its callbacks in this thread."""
        if not self.watched:
            return
        outcome = self._resolve()
        claim = object()
        if self.__dict__.setdefault("_notified", claim) is not claim:
            return
        with contextlib.suppress(InvalidStateError):
            if outcome.cancelled:
                super().cancel()
                super().set_running_or_notify_cancel()
            elif outcome.error is not None:
                super().set_exception(outcome.error)
            else:
                super().set_result(outcome.value)

    def done(self) -> bool:
        """Whether there is an answer, or it is not wanted any more."""
        if self.waits and self.connection is not None:
            self.connection.read_available()
        return not self.waits

    def cancelled(self) -> bool:
        """Whether ``cancel`` came first."""
        return self._end is _CANCELLED

    def running(self) -> bool:
        """Whether there is no answer yet."""
        return not self.done()

    def cancel(self) -> bool:
        """Give the call up and tell its handler. False when it is too late."""
        connection = self.connection
        if connection is not None and not connection.withdraw(self):
            return self.cancelled()
        self.given_up = True  # whoever is about to send the call, or has just sent it, looks here
        if not self._finish(_CANCELLED):
            return self.cancelled()
        self._recall(connection)  # now that it is finished: the server's answer wakes whoever reads, once
        self.notify()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """What the method returned; waits at most ``timeout`` seconds.

        Raises:
            TimeoutError: not within ``timeout``. The call goes on.
            CancelledError: it was cancelled.
            RemoteError: the method raised; also an instance of the original class.
            RpcError: the call itself went wrong.
        """
        if self.waits:
            self.wait(timeout)
        end = self._end
        outcome = end if type(end) is _Outcome else self._resolve()
        del end
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del self, outcome  # the traceback would keep the future alive
        if outcome.cancelled:
            raise CancelledError
        return outcome.value

    def take(self) -> Any:
        """The result, for a caller who shows this future to nobody else, and asks once."""
        if self.waits:
            self.wait(None)
        end = self._end
        if type(end) is Frame and end.kind == Kind.RESULT:
            return codec.decode(end.body, end.buffers)
        return self.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits like ``result``."""
        if self.waits:
            self.wait(timeout)
        outcome = self._resolve()
        if outcome.cancelled:
            raise CancelledError
        return outcome.error

    # -- completion, by whoever reads the connection --------------------------------------------------------

    def deliver(self, frame: Frame) -> bool:
        """The answer came. Unpickling it is left to the thread that wants it.

        Returns:
            Whether somebody has to be told by ``notify``.
        """
        if self._end is not None:
            return False
        self._end = frame  # whoever took the call off the connection's list is the only one who may end it
        self.waits = False
        if self.gate is not None:
            _open(self.gate)
        return self.watched

    def complete(self, result: object) -> None:
        """The answer came, and needs no unpickling."""
        self._finish(_Outcome(result))

    def fail(self, error: BaseException) -> bool:
        """End with an error; False when the call had ended before."""
        return self._finish(_Outcome(None, error))

    def _finish(self, end: Frame | _Outcome) -> bool:
        if self.__dict__.setdefault("_end", end) is not end:
            return False
        self.waits = False
        gate = self.gate
        if gate is not None:
            _open(gate)
        return True

    def _resolve(self) -> _Outcome:
        """The end of the call, unpickled if nobody has done so."""
        end = self._end
        if type(end) is not Frame:
            assert isinstance(end, _Outcome)  # noqa: S101 - asked for only once the call has ended; for the type checker
            return end
        fields = self.__dict__
        outcome: _Outcome
        fields["_end"] = outcome = fields.setdefault("_resolved", _decoded(end))  # which lets go of the frame
        return outcome

    # -- waiting --------------------------------------------------------------------------------------------

    @waits_in(lambda here: _described(here["self"], here["since"]))
    def wait(self, timeout_s: float | None) -> None:
        """Wait for the end of the call, at most ``timeout_s`` seconds and until its own deadline.

        Raises:
            TimeoutError: ``timeout_s`` passed.
        """
        since, until = time.monotonic(), self.deadline
        timeout_at = None if timeout_s is None else since + timeout_s
        if timeout_at is not None and (until is None or timeout_at < until):
            until = timeout_at
        warn_at = since + PATIENCE_S if until is None else None
        while self.waits:
            connection = self.connection
            if connection is None:
                self.sleep(until)
            else:
                connection.wait(self, until if warn_at is None else warn_at)
            if not self.waits:
                return
            if connection is not None and warn_at is not None and time.monotonic() >= warn_at:
                warn_at = None
                connection.warn_unanswered(self.method)
            elif until is not None and time.monotonic() >= until:
                if until is timeout_at:
                    raise TimeoutError(f"{self.method}: no answer within {timeout_s} s")
                self.expire()

    def sleep(self, until: float | None) -> None:
        """Sleep until somebody opens the gate; there may be no answer afterwards."""
        gate = self.gate
        if gate is None:
            gate = threading.Lock()
            gate.acquire()
            gate = self.__dict__.setdefault("gate", gate)
        if self.waits:
            gate.acquire(timeout=-1 if until is None else max(0.0, until - time.monotonic()))
            if not self.waits:
                _open(gate)  # another thread may sleep on the same future

    def again(self) -> Reply:
        """A new future for the same call, with what is left of its time."""
        left = None if self.deadline is None else max(1e-6, self.deadline - time.monotonic())
        return Reply(self.method, left)

    def wake(self) -> None:
        """Let a thread that sleeps look again."""
        gate = self.gate
        if gate is not None:
            _open(gate)

    def expire(self) -> None:
        """The deadline passed: end the call here, and tell its handler."""
        connection = self.connection
        if connection is None or connection.withdraw(self):
            self.given_up = True
            server = self.server if connection is None else connection.name
            self.fail(DeadlineExceeded(f"{self.method}: {server} gave no answer within {self.timeout_s or 0:.4g} s"))
            self._recall(connection)
            self.notify()

    def _recall(self, connection: ReplySource | None) -> None:
        """Tell the server, too: if the call was on ``connection``, or was sent only after that was looked at."""
        if connection is not None:
            connection.recall(self)
        elif self.connection is not None and self.connection.withdraw(self):
            self.connection.recall(self)


def _described(reply: Reply, since: float) -> Blocked:
    """A wait for an answer, for those who ask what is waited for."""
    connection, deadline = reply.connection, reply.deadline
    limit = "there is no time-out" if deadline is None else f"its time-out is in {deadline - time.monotonic():.1f} s"
    if connection is None:
        return Blocked(on=reply.server, what=reply.method, since=since, ends=f"a connection; {limit}")
    return Blocked(on=connection.name, what=reply.method, since=since, ends=f"it answers; {limit}")


def waits_for_itself(method: str) -> RpcError:
    """The error for a thread that would wait for what it is about to read itself."""
    return RpcError(
        f"{method}: this code has interrupted its own thread (as a signal handler or a finaliser does) while that"
        f" reads the answers of this very client, so it cannot wait for one of them; new calls work"
    )


def _decoded(frame: Frame) -> _Outcome:
    try:
        value = codec.decode(frame.body, frame.buffers)
        if frame.kind == Kind.RESULT:
            return _make_outcome((value, None, False))
        return _Outcome(None, failures.rebuild(failures.Failure(*value)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
        return _Outcome(None, error)


def _open(gate: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it was open
        gate.release()
