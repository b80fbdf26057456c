"""Sends one client its answers, and bounds what may wait for the client to take it."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Sequence

from kourou.courier.lanes.http2.framing import Http2
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.wire.frames import LAST, Buffer, Frame, pack

_MAX_UNREAD_ANSWERS = 8 << 20  # bytes of answers that a client does not take, before no further call of it begins
_LOOK_EVERY = 256  # answers that are queued, how many bytes they are: counting takes time
_STALLED_S, _STALLED_BYTES = 0.02, 1 << 20  # a client that takes less than that in so long is slow
_LONGEST_S = 0.25  # that a thread writes bulk: others may need it
_WINDOW_POLL_S = 5e-4


class AnswerSender:
    """For any thread.

    Attributes:
        answered: calls that have their last frame.
        is_over: there is nothing more to answer, since ``over_at``.
        is_congested: too much waits for the client.
        needs_window: the client has to grant a window before it can be sent more.
    """

    def __init__(self, sock: TcpSocket, http2: Http2, poller: Poller, resume: Callable[[], None]) -> None:
        self.answered = 0
        self.is_over = False
        self.over_at = 0.0
        self.is_congested = False
        self.needs_window = False
        self._socket = sock
        self._descriptor = sock.fileno()
        self._poller = poller
        self._resume = resume
        self._writer = PacketWriter(sock, http2)
        self._writing = threading.Lock()
        self._state = threading.Lock()  # for what has ended, and for what the poller is asked
        self._is_full = False  # the event loop will hear when it is not
        self._interest = select.POLLIN
        self._final_frame: bytes | None = None  # for a client that is refused
        self._closed = False

    @property
    def pending(self) -> bool:
        """Whether anything is still to be sent."""
        return self._writer.pending

    def put(self, frame: Frame) -> None:
        """Take a frame, to be sent with the next ``flush``; bulk is sent here and now, since its memory may change."""
        if self.is_over:
            return
        parts = pack(frame)
        if len(parts) > 1:
            self._send_bulk(parts)
        else:
            self._writer.queue.append(parts[0])
        if frame.kind in LAST:
            with self._state:
                self.answered += 1

    def put_plain(self, contents: bytes) -> None:
        """Take a message that is no packet; for the event loop, before there are frames."""
        self._writer.put_plain(contents)

    def flush(self) -> bool:
        """Send what is queued, as far as the client takes it. Whether nothing waits for the client."""
        while (self._writer.pending or self._final_frame) and not self._is_full and not self._closed:
            if not self._writing.acquire(blocking=False):
                return False  # whoever writes takes it along
            try:
                self._push()
            finally:
                self._writing.release()
            if self.needs_window and self._writer.needs_window:  # else it was granted while this thread was at it
                break
        if self._is_full or self.needs_window or self.is_congested:
            if self._interest == select.POLLIN or not len(self._writer.queue) % _LOOK_EVERY:
                self.update_interest()
            return False
        return True

    def has_room(self) -> None:
        """The socket takes more."""
        self._is_full = False

    def update_interest(self) -> None:
        """Ask for room when there is none. While much is unsent, no further call begins: answers would pile up."""
        with self._state:  # whoever comes last has seen the latest
            was_congested = self.is_congested
            waits = self._is_full or self.needs_window
            self.is_congested = waits and self._writer.size > _MAX_UNREAD_ANSWERS
            interest = select.POLLIN
            if self._is_full:
                interest = select.POLLOUT if self.is_congested else select.POLLIN | select.POLLOUT
            elif was_congested and not self.is_congested:
                interest = select.POLLIN | select.POLLOUT  # the event loop shall look at the calls that it has left
            if interest != self._interest and not self._closed:
                self._interest = interest
                with contextlib.suppress(OSError, ValueError):
                    self._poller.modify(self._descriptor, interest)
        if was_congested and not self.is_congested:
            self._resume()

    def try_flush(self) -> bool:
        """Send what is queued, without waiting. Whether all of it is on its way, or never will be."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            self._push()
        finally:
            self._writing.release()
        return not self._writer.pending or self.needs_window  # nobody reads any more that a window was granted

    # -- the end ----------------------------------------------------------------------------------------------

    def finish(self, trailers: bytes) -> bool:
        """Answer no more; what is queued is sent, and then this. False when it was over before."""
        if not self._end():
            return False
        self._writer.finish(trailers)
        return True

    def refuse(self, final_frame: bytes) -> bool:
        """Answer no more, and send nothing but this. False when it was over before."""
        if not self._end():
            return False
        self._final_frame = final_frame
        return True

    def _end(self) -> bool:
        with self._state:
            if self.is_over:
                return False
            self.over_at = time.monotonic()
            self.is_over = True
        return True

    def close(self) -> bool:
        """Let go of the connection. False when that was done before."""
        with self._state:
            if self._closed:
                return False
            self._closed = True
            with contextlib.suppress(OSError, ValueError):
                self._poller.unregister(self._descriptor)
        self._socket.shutdown()  # wakes a thread that waits for room
        with self._writing:
            self._socket.close()
        return True

    # -- with the writing lock held ---------------------------------------------------------------------------

    def _push(self) -> None:
        """Send what there is, without waiting."""
        writer = self._writer
        if writer.torn:  # a thread was interrupted while it wrote: what the client would read makes no sense
            self._socket.shutdown()
            writer.discard()
        if self._final_frame is not None:
            writer.end(self._final_frame)
            self._final_frame = None
        self.needs_window = False
        try:
            while writer.pending and not self._closed:
                if writer.send_some():
                    self._is_full = True
                    break
                if writer.needs_window:
                    self.needs_window = True
                    break
        except OSError:  # the client is gone; the event loop will notice when it reads
            writer.discard()

    def _send_bulk(self, parts: Sequence[Buffer]) -> None:
        """Send a frame whose memory may change when this returns."""
        writer = self._writer
        with self._writing:
            if self._closed or self.is_over:
                return
            try:
                writer.put(parts)
                self._push_on()
            except BaseException:  # a thread that is told to stop: another one sends the rest
                writer.copy_unsent()
                raise

    def _push_on(self) -> None:
        """Send until all of it is on its way; copy what a slow client does not take."""
        writer = self._writer
        begun = since = time.monotonic()
        sent = writer.sent
        while True:
            self._push()
            if not writer.pending or self._closed:
                return
            now = time.monotonic()
            if writer.sent - sent >= _STALLED_BYTES and now - begun < _LONGEST_S:
                since, sent = now, writer.sent
            elif self.is_over or now - since > _STALLED_S:
                writer.copy_unsent()
                return
            self._wait()

    def _wait(self) -> None:
        """For room, but not for long."""
        if self.needs_window:
            time.sleep(_WINDOW_POLL_S)  # the event loop reads that it was granted
            return
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        poller.poll(_STALLED_S * 1e3)
        self._is_full = False
