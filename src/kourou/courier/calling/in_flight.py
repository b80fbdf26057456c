"""The calls and streams of a client's connection that have not ended, and what comes for them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from kourou.courier.calling.reply import Reply
from kourou.courier.calling.stream_reader import ItemSource, RemoteIterator, StreamBuffer
from kourou.courier.core.background import BackgroundLoop
from kourou.courier.wire.frames import Frame, Kind
from kourou.errors import RpcError

_log = logging.getLogger("kourou.courier")


class BackgroundReader:
    """Reads one connection, for whatever no caller's thread waits for: calls ``tick`` for as long as that asks for it.

    Callbacks run in a thread of their own: they are code of the user's, and unpickle what came, which may take its
    time.

    It is lazy on purpose: while callers read their own answers it only looks in from time to time, since a thread that
    woke for every answer would compete with them for the interpreter.
    """

    def __init__(self, tick: Callable[[], float | None], idle_s: float | None) -> None:
        self._finished: deque[Reply] = deque()
        self._loop = BackgroundLoop(tick, "kourou-background", idle_s)
        self._callbacks = BackgroundLoop(self._run_callbacks, "kourou-callbacks")
        self.wake = self._loop.wake

    def notify(self, reply: Reply) -> None:
        """Run the callbacks of a finished future, here and not in the thread of whoever happened to read its answer."""
        self._finished.append(reply)
        self._callbacks.wake(urgent=True)

    def stop(self) -> None:
        """End both threads after one more round."""
        self._loop.stop()
        self._callbacks.stop()

    def _run_callbacks(self) -> None:
        while self._finished:
            reply = self._finished.popleft()
            try:
                reply.notify()
            except BaseException:  # noqa: BLE001 - a callback is the user's code, and must not end this thread
                _log.exception("a callback of %s failed", reply.method)


class InFlight:
    """``pending`` are the calls without an answer, ``streams`` the streams without an end, by their number."""

    def __init__(self, connection: ItemSource, background: BackgroundReader) -> None:
        self.pending: dict[int, Reply] = {}
        self.streams: dict[int, StreamBuffer] = {}
        self._connection = connection
        self._background = background

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Give answers to those who wait for them."""
        for frame in frames:
            kind = frame[0]
            if kind == Kind.RESULT or kind == Kind.FAILURE:  # noqa: PLR1714 - a set would be built for every frame
                reply = self.pending.pop(frame[1], None)
                if reply is not None:
                    if reply.deliver(frame):
                        self._background.notify(reply)
                elif kind == Kind.FAILURE:
                    self._stream_frame(frame)
            elif kind == Kind.STREAM:
                self._open_stream(frame)
            else:
                self._stream_frame(frame)

    def expire(self) -> None:
        """End the calls whose deadline passed."""
        now = time.monotonic()
        for reply in list(self.pending.values()):
            if reply.deadline is not None and reply.deadline <= now:
                reply.expire()

    def next_deadline_s(self) -> float | None:
        """Seconds until the first call expires."""
        deadlines = [reply.deadline for reply in list(self.pending.values()) if reply.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def fail(self, error: RpcError) -> None:
        """End all of them, except the calls that are taken over."""
        while self.pending:
            with contextlib.suppress(KeyError):
                _, reply = self.pending.popitem()
                if reply.on_lost is not None and reply.on_lost(reply, error):
                    continue
                if reply.fail(_copy(error)) and reply.watched:
                    self._background.notify(reply)
        for stream in list(self.streams.values()):
            stream.broken(_copy(error))

    def _open_stream(self, frame: Frame) -> None:
        call_id = frame.call_id
        buffer = self.streams[call_id] = StreamBuffer()  # first, since ``submit`` takes a call in neither for given up
        reply = self.pending.pop(call_id, None)
        if reply is None:
            self.streams.pop(call_id, None)
            return
        reply.complete(RemoteIterator(buffer, self._connection, call_id, reply.method, reply.timeout_s))
        self._background.wake(urgent=True)
        if reply.watched:
            self._background.notify(reply)

    def _stream_frame(self, frame: Frame) -> None:
        stream = self.streams.get(frame.call_id)
        if stream is None:
            return  # its reader let go
        if frame.kind in {Kind.END, Kind.FAILURE}:
            self.streams.pop(frame.call_id, None)
        stream.deliver(frame)


def _copy(error: RpcError) -> RpcError:
    """An error of its own for each call: raising one object in several threads would tangle their tracebacks."""
    return type(error)(*error.args)
