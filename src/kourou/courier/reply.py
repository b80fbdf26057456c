"""The future of one call.

A ``concurrent.futures.Future`` in every respect, but cheaper to make: its condition, which most futures never
need, is made when somebody first asks for it, and the answer is unpickled by whoever takes it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from kourou.courier import codec, failures
from kourou.courier.frames import Frame, Kind
from kourou.errors import DeadlineExceeded

if TYPE_CHECKING:
    from kourou.courier.connection import Connection

__all__ = ["Reply"]

_RUNNING, _CANCELLED, _FINISHED = "RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"  # concurrent.futures' own words


class Reply(Future[Any]):
    """The answer to a call, once it comes.

    Args:
        method: what was called, for messages.
        timeout_s: seconds from now until the caller gives up; None for never.
    """

    # Defaults of a fresh future, as class attributes: setting them one by one would double the cost of a call.
    _state = _RUNNING
    _result: Any = None
    _exception: BaseException | None = None
    _frame: Frame | None = None
    _lazy: threading.Condition | None = None
    gate: Any = None  # a lock that a waiting thread sleeps on; released when there is news
    waits = True  # there is no answer, as far as anybody has read
    call_id = 0
    connection: Connection | None = None  # where the answer comes from, once the call was sent
    given_up = False  # nobody wants the answer any more
    on_lost: Callable[[Reply, Exception], bool] | None = None  # takes the call over when its connection broke
    _settling = threading.RLock()  # of all futures; re-entrant, since unpickling may make calls of its own

    def __init__(self, method: str, timeout_s: float | None) -> None:  # no super().__init__: see above
        self.method = method
        self.timeout_s = timeout_s
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s

    # -- what concurrent.futures looks at ------------------------------------------------------------------

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        lazy = self._lazy
        if lazy is None:
            fields = self.__dict__
            fields.setdefault("_waiters", [])
            fields.setdefault("_done_callbacks", [])
            lazy = fields.setdefault("_lazy", threading.Condition())
            if self.connection is not None and self._state == _RUNNING:
                self.connection.watch()  # from now on somebody must read even if nobody calls result()
        return lazy

    @property
    def watched(self) -> bool:
        """Somebody waits for it by a callback or a condition, so it must be completed without their help."""
        return self._lazy is not None

    def done(self) -> bool:
        """Whether there is an answer, or it is not wanted any more."""
        if self._state == _RUNNING and self.connection is not None:
            self.connection.glance()
        return self._state != _RUNNING

    def cancelled(self) -> bool:
        """Whether ``cancel`` came first."""
        return self._state == _CANCELLED

    def running(self) -> bool:
        """Whether there is no answer yet."""
        return not self.done()

    def cancel(self) -> bool:
        """Give the call up and tell its handler. False when it is too late."""
        connection = self.connection
        if connection is not None and not connection.withdraw(self):
            return self._state == _CANCELLED
        self.given_up = True  # whoever is about to send the call, or has just sent it, looks here
        if not self._finish(_CANCELLED):
            return self._state == _CANCELLED
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
        if self._state == _RUNNING:
            self.wait(timeout)
        if self._frame is not None:
            self.settle()
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # noqa: PLW0642 - the traceback would keep the future alive
        if self._state == _CANCELLED:
            raise CancelledError
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits like ``result``."""
        if self._state == _RUNNING:
            self.wait(timeout)
        if self._frame is not None:
            self.settle()
        if self._state == _CANCELLED:
            raise CancelledError
        return self._exception

    # -- completion, by whoever reads the connection --------------------------------------------------------

    def deliver(self, frame: Frame) -> bool:
        """The answer came. Unpickling it is left to the thread that wants it.

        Returns:
            Whether somebody has to be told by ``notify``.
        """
        self._frame = frame  # whoever took the call off the connection's list is the only one who may end it: no lock
        self._state = _FINISHED
        self.waits = False
        if self.gate is not None:
            _open(self.gate)
        return self._lazy is not None

    def complete(self, result: object) -> None:
        """The answer came, and needs no unpickling."""
        self._finish(_FINISHED, result=result)

    def fail(self, error: BaseException) -> bool:
        """End with an error; False when the call had ended before."""
        return self._finish(_FINISHED, error=error)

    def _finish(
        self, state: str, *, frame: Frame | None = None, result: object = None, error: BaseException | None = None
    ) -> bool:
        with self._settling:
            if self._state != _RUNNING:
                return False
            self._frame, self._result, self._exception = frame, result, error
            self._state = state
            self.waits = False
        gate = self.gate
        if gate is not None:
            _open(gate)
        return True

    def notify(self) -> None:
        """Wake those who wait by a condition, and run the callbacks, in this thread."""
        lazy = self._lazy
        if lazy is None:
            return
        self.settle()
        with lazy:
            for waiter in self._waiters:
                if self._state == _CANCELLED:
                    waiter.add_cancelled(self)
                elif self._exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            lazy.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # of the base class

    def settle(self) -> None:
        """Turn the frame that came into a result or an exception, once."""
        with self._settling:
            frame = self._frame
            if frame is None:
                return
            try:
                if frame.kind == Kind.RESULT:
                    self._result = codec.decode(frame.body, frame.buffers)
                else:
                    self._exception = failures.rebuild(failures.Failure(*codec.decode(frame.body, frame.buffers)))
            except Exception as error:  # noqa: BLE001 - what is unpickled may raise anything
                self._exception = error
            self._frame = None  # last: who sees it gone does not wait for the lock

    # -- waiting --------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None) -> None:
        """Wait for the end of the call, at most ``timeout`` seconds and until its own deadline.

        Raises:
            TimeoutError: ``timeout`` passed.
        """
        until = self.deadline
        patience = None if timeout is None else time.monotonic() + timeout
        if patience is not None and (until is None or patience < until):
            until = patience
        while self._state == _RUNNING:
            connection = self.connection
            if connection is None:
                self.sleep(until)
            else:
                connection.wait(self, until)
            if self._state == _RUNNING and until is not None and time.monotonic() >= until:
                if until is patience:
                    raise TimeoutError(f"{self.method}: no answer within {timeout} s")
                self.expire()

    def sleep(self, until: float | None) -> None:
        """Sleep until somebody opens the gate; the state may be the same afterwards."""
        gate = self.gate
        if gate is None:
            gate = threading.Lock()
            gate.acquire()
            gate = self.__dict__.setdefault("gate", gate)
        if self._state == _RUNNING:
            gate.acquire(timeout=-1 if until is None else max(0.0, until - time.monotonic()))
            if self._state != _RUNNING:
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
            self.fail(DeadlineExceeded(f"{self.method}: no answer before the deadline"))
            self._recall(connection)
            self.notify()

    def _recall(self, connection: Connection | None) -> None:
        """Tell the server, too: if the call was on ``connection``, or was sent only after that was looked at."""
        if connection is not None:
            connection.recall(self)
        elif self.connection is not None:
            self.connection.forget(self)


def _open(gate: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it was open
        gate.release()
