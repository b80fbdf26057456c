"""The client's end of one connection: numbers calls, sends them, and ends them when it breaks.

Callers read their own answers (``answer_reader``). A background thread sees to what nobody waits for: callbacks,
streams, futures that were let go.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kourou.courier.calling.answer_reader import AnswerReader
from kourou.courier.calling.connect_deadline import warn_unanswered
from kourou.courier.calling.in_flight import BackgroundReader, InFlight
from kourou.courier.calling.reentrancy import Entered
from kourou.courier.calling.reply import Reply
from kourou.courier.calling.transport import NotSentError, Transport
from kourou.courier.core.background import TICK_S
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.trace import call_numbers
from kourou.courier.wire.codec import Payload
from kourou.courier.wire.frames import Frame, Kind, make_frame
from kourou.errors import CallCancelled, ConnectionLost, ProtocolError, RpcError

if TYPE_CHECKING:
    import asyncio

    from kourou.courier.calling.awaiting import LoopReader

_FEW_CALLS = 4  # with more of them unanswered, the server is busy: further ones may be gathered, for 2 ms at most
_BURST_S = 100e-6  # so may the second call and those after it, if they follow each other as fast as this
_SILENT = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
_LONGEST_READ_S = 0.2  # how long the background thread reads before it looks for new deadlines


class Connection:
    """A live connection.

    Args:
        explain: called once when the connection breaks; the error for calls in flight. May take a second.
        tidy: called once when the connection breaks, but not when it is closed.
        inside: the threads that are at work in here. What interrupts one of them (a signal handler, the garbage
            collector with somebody's ``__del__``) must not wait for what that thread was about to do.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        transport: Transport,
        explain: Callable[[], RpcError],
        tidy: Callable[[], None],
        inside: set[int],
    ) -> None:
        self.name = name
        self.warn_unanswered = functools.cache(functools.partial(warn_unanswered, name))  # once for each method
        self._tidy = tidy
        self._inside = inside
        self.endpoint = endpoint
        self.transport = transport
        self.alive = True
        self._explain = explain
        self._ids = call_numbers()
        self._first_id, self._looks = next(self._ids), 1
        self._later: deque[Frame] = deque()  # frames from the garbage collector, which may not take locks
        self._not_ended = [None]  # whoever takes the one entry ends the connection
        self._background = BackgroundReader(self._background_tick, transport.idle_s)
        self._in_flight = InFlight(self, self._background)
        self._pending, self._streams = self._in_flight.pending, self._in_flight.streams
        self.deliver = self._in_flight.deliver
        self._reader = AnswerReader(self, transport, self._in_flight, inside)
        self.wait, self.read_available = self._reader.wait, self._reader.read_available
        self.settle, self.reads_here = self._reader.settle, self._reader.reads_here
        self._reads_seen = 0
        self._let_go = False
        self._watched = 0  # how often somebody asked to be told; see ``watch``
        self._submitted = 0.0  # when the last call that nobody waits for was
        self._loop_readers: dict[asyncio.AbstractEventLoop, LoopReader] = {}

    def unanswered(self) -> list[Reply]:
        """The calls that wait for an answer."""
        return list(self._pending.values())

    def count(self) -> int:
        """How many calls were made. Nothing counts them: each look takes a number that no call has."""
        made = next(self._ids) - self._first_id - self._looks
        self._looks += 1
        return made

    # -- calling ----------------------------------------------------------------------------------------------

    def submit(self, reply: Reply, payload: Payload, *, caller_waits: bool = False) -> bool:
        """Send a call. False when the connection was gone before anything was sent."""
        self._look_first()
        reply.call_id = call_id = next(self._ids)
        timeout_s = 0.0
        if reply.deadline is not None:
            timeout_s = max(1e-6, reply.deadline - time.monotonic())
        self._pending[call_id] = reply
        reply.connection = self  # after the entry was made: who cancels finds both, or neither
        # Looked at after the entry was made: whoever ends the connection or the call looks the other way round.
        if not self.alive or reply.given_up:
            if self._pending.pop(call_id, None) is not None and not reply.given_up:
                reply.connection = None
                return False
            return True
        body, buffers = payload
        frame = make_frame((Kind.CALL, call_id, timeout_s, reply.method, body, buffers))
        may_gather = not caller_waits and self._is_busy()
        try:
            self.transport.send(frame, caller_waits=caller_waits, may_gather=may_gather)
        except NotSentError as error:
            unsent = self._pending.pop(call_id, None) is not None
            self.end(error)
            if unsent:
                reply.connection = None
                return False
        except (OSError, ProtocolError) as error:
            self.end(error)
        except BaseException:
            self.forget(reply)
            raise
        lost = reply.waits and call_id not in self._pending and call_id not in self._streams
        if reply.given_up or lost:  # the call may have gone out after CANCEL
            self._pending.pop(call_id, None)
            self.recall(reply)
        if not caller_waits:
            self._background.wake(urgent=reply.watched)
        return True

    def _is_busy(self) -> bool:
        """Whether a call that nobody waits for may share a packet with those that follow. A lone call never has to."""
        in_flight, last, now = len(self._pending), self._submitted, time.perf_counter()
        self._submitted = now
        return in_flight > _FEW_CALLS or (in_flight > 1 and now - last < _BURST_S)

    def _look_first(self) -> None:
        """See whether the server is gone, where sending would not tell: a call that was sent is not sent again."""
        if self.transport.idle_s is None or self._pending or self.read_available() or self._streams:
            return
        if self.transport.peer_closed:  # the thread that reads is about to hear of it
            self.end()

    def withdraw(self, reply: Reply) -> bool:
        """No answer to a call is wanted any more. False when it is here."""
        return self._pending.pop(reply.call_id, None) is not None

    def forget(self, reply: Reply) -> None:
        """Withdraw a call, and say so, unless its answer is here."""
        if self.withdraw(reply):
            self.recall(reply)

    def recall(self, reply: Reply) -> None:
        """Tell the server that a call was withdrawn.

        A finaliser may cancel, in the midst of a write by this very thread: then the background thread tells it.
        """
        frame = Frame(Kind.CANCEL, reply.call_id)
        if threading.get_ident() in self._inside:
            self._later.append(frame)
            self._background.wake(urgent=True)
        else:
            self.send_quietly(frame)

    def send_quietly(self, frame: Frame) -> None:
        """Send something that needs no answer; a connection that is gone needs none of it."""
        with Entered(self._inside):
            try:
                self.transport.send(frame)
            except (OSError, ProtocolError) as error:
                self.end(error)

    def flush(self) -> None:
        """Send what was put off."""
        with Entered(self._inside):
            try:
                self.transport.flush()
            except OSError as error:
                self.end(error)

    def end_stream(self, call_id: int) -> None:
        """The items of a stream are not wanted any more. Takes no locks."""
        if self._streams.pop(call_id, None) is not None and self.alive:
            self._later.append(Frame(Kind.CANCEL, call_id))
            self._background.wake(urgent=True)

    def loop_reader(self, loop: asyncio.AbstractEventLoop) -> LoopReader:
        """What lets an event loop read, while tasks of it await what comes here."""
        reader = self._loop_readers.get(loop)
        if reader is None:
            from kourou.courier.calling.awaiting import LoopReader  # noqa: PLC0415 - it imports asyncio, which is slow

            for other in list(self._loop_readers):
                if other.is_closed() and (
                    ended := self._loop_readers.pop(other, None)
                ):  # else another thread was faster
                    ended.close()
            reader = self._loop_readers[loop] = LoopReader(loop, self)
        return reader

    def watch(self) -> None:
        """Somebody relies on being told: let the background thread read when nobody else does."""
        self._watched += 1
        self.flush()
        self._background.wake(urgent=True)

    def wake_background(self) -> None:
        """Let the background thread look in soon. Takes no locks once that thread runs."""
        self._background.wake()

    def let_go(self) -> None:
        """Nobody will call any more: close once the calls in flight are answered. Takes no locks."""
        self._let_go = True
        self._background.wake(urgent=True)

    def reading_stopped(self) -> None:
        """No caller reads any more: an event loop or the background thread goes on, if they have reasons to."""
        if self._pending or self._streams:
            for reader in list(self._loop_readers.values()):
                reader.nudge()
            self._background.wake(urgent=self._is_urgent())

    def _is_urgent(self) -> bool:
        """Whether the background thread has to read at once, if nobody else does."""
        return bool(self._watched) or any(stream.gate is None for stream in list(self._streams.values()))

    # -- the background thread --------------------------------------------------------------------------------

    def _background_tick(self) -> float | None:
        """One round of the background thread. Seconds until the next at the latest; None when it may sleep."""
        if not self.alive:
            self._inside.discard(threading.get_ident())
            return None
        self._inside.add(threading.get_ident())  # for good: it runs nobody's code but what the garbage collector does
        self._catch_up()
        urgent = self._is_urgent()
        if not (self._pending or self._streams):
            self._watched = 0
            if self._let_go:
                self.end()
            elif self.transport.idle_s is not None:
                self.read_available()
            return None
        if not self.transport.pulls:
            return self._in_flight.next_deadline_s() if self._watched else None
        unread = self._reader.reads == self._reads_seen  # nobody else has read since the last round
        self._reads_seen = self._reader.reads
        if not urgent:
            by_loop = any(reader.reads for reader in list(self._loop_readers.values()))
            if by_loop or not unread:
                return None if by_loop else TICK_S  # an event loop wakes the background thread when it stops
        read_s = min(_LONGEST_READ_S, self._in_flight.next_deadline_s() or _LONGEST_READ_S)
        if not self._reader.read_until(time.monotonic() + read_s):
            return None  # whoever reads wakes the background thread when it stops
        self._reads_seen = self._reader.reads
        return 0.0

    def _catch_up(self) -> None:
        """Send what was left to the background thread, and end what has taken too long."""
        while self._later:
            with contextlib.suppress(IndexError):
                self.send_quietly(self._later.popleft())
        if self.transport.idle_s is not None:
            try:
                self.transport.check()  # TCP itself would wait long for a host that does not answer any more
            except OSError as error:
                self.end(error)
        self.flush()
        if self._watched:
            self._in_flight.expire()

    # -- the end ----------------------------------------------------------------------------------------------

    def end(self, cause: Exception | None = None) -> None:
        """Close, and fail what is in flight: with ``cause`` if it says what went wrong, else with the explanation."""
        try:
            self._not_ended.pop()
        except IndexError:
            return
        self.alive = False
        self.transport.close()
        for reader in list(self._loop_readers.values()):
            reader.end()
        if self._pending or self._streams:
            error = cause if isinstance(cause, RpcError) else self._explain()
            if isinstance(cause, OSError) and cause.errno in _SILENT and type(error) is ConnectionLost:
                error = ConnectionLost(f"{error}; nothing was heard from its host any more")
            self._in_flight.fail(error)
        if not isinstance(cause, CallCancelled):
            self._tidy()
        self._background.stop()
