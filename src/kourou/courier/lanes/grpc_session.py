"""One client's stream of the gRPC lane, as the server sees it.

The thread that reads the stream, its leader, runs short handlers itself and sends their answers, so that a call costs
one change of threads. When a handler keeps it busy for longer than a moment, a watchman deposes it, as on the local
lane: a new leader goes on reading, and the old one only finishes its handler. Answers from other threads are sent by
one more thread, which waits where they must not: for a client that does not read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from kourou.courier.calls import Peer
from kourou.courier.frames import Frame, FrameParser, pack
from kourou.courier.lanes.packets import Outbox, unpack_packet
from kourou.courier.patrol import ROUND_S
from kourou.courier.session import Dispatcher, Session
from kourou.courier.wire import NotSentError
from kourou.errors import ProtocolError

__all__ = ["GrpcSession"]


class GrpcSession:
    """A client.

    Args:
        dispatcher: runs the calls.
        requests: the packets of the client.
        context: of the stream.
        send: sends a packet, and waits until it is on its way; None ends the stream.
        on_call: called before each handler that the leader runs; it has to see to it that ``watch`` is called.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        send: Callable[[bytes | None], Any],
        on_call: Callable[[], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._requests = requests
        self._context = context
        self._send = send
        self._on_call = on_call
        self._outbox = Outbox()
        self._parser = FrameParser()
        self._frames: deque[Frame] = deque()  # that were read but not acted on
        self._sending = threading.Lock()
        self._guard = threading.Lock()
        self._term = 0  # counts the leaders
        self._leader = 0  # the thread that reads
        self._busy_since: float | None = None
        self._session = Session(dispatcher, Peer(lane="grpc", address=context.peer()), self._post)

    def serve(self, on_end: Callable[[], None]) -> None:
        """Begin, in the calling thread, and come back when the stream ends or this thread is deposed.

        Args:
            on_end: called when the stream has ended.
        """
        self._context.add_callback(self.close)
        self._send(b"")  # tells the client that it was accepted
        threading.Thread(target=self._send_on, args=(on_end,), name="kourou-grpc-send", daemon=True).start()
        self._lead(0)

    def close(self) -> None:
        """Take no more answers; those that are queued are still sent."""
        self._outbox.close()

    def watch(self) -> bool:
        """Depose a leader that is stuck in a handler. Whether there is one to watch."""
        since = self._busy_since
        if since is not None and time.monotonic() - since >= ROUND_S:
            with self._guard:
                if self._busy_since == since:
                    self._busy_since = None
                    self._term += 1
                    threading.Thread(
                        target=self._lead, args=(self._term,), name="kourou-grpc-read", daemon=True
                    ).start()
        return since is not None

    # -- reading, by the leader -------------------------------------------------------------------------------

    def _lead(self, term: int) -> None:
        self._leader = threading.get_ident()
        self._flush()
        try:
            while True:
                if self._frames and not self._act(term):
                    return
                self._flush()
                message = next(self._requests, None)
                if message is None:
                    break
                self._frames.extend(self._parser.feed(unpack_packet(message)))
        except ProtocolError as error:
            self._context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            self._context.set_details(str(error))
        except Exception:  # noqa: BLE001, S110 - grpcio raises a bare Exception when the client goes away
            pass
        self.close()

    def _act(self, term: int) -> bool:
        """Act on the frames that were read. False when this thread is not the leader any more."""
        pool = self._dispatcher.pool
        has_slot = pool.try_enter()  # one for the whole batch: it is over in a moment, or this thread is deposed
        try:
            while self._frames:
                call = self._session.accept(self._frames.popleft())
                if call is None:
                    continue
                if not has_slot or call.method.trust < 0:
                    call.enqueue()
                    continue
                with self._guard:
                    self._busy_since = time.monotonic()
                self._on_call()  # after the mark was made: a watchman who falls asleep looks once more
                call.run()
                with self._guard:
                    if self._term != term:
                        return False
                    self._busy_since = None
        finally:
            if has_slot:
                pool.leave()
        return True

    # -- writing ----------------------------------------------------------------------------------------------

    def _post(self, frame: Frame) -> None:
        """Send a frame to the client. The leader's are sent when its batch is done."""
        with contextlib.suppress(NotSentError, ConnectionResetError):  # the client is gone and misses nothing
            self._outbox.put(pack(frame), quietly=threading.get_ident() == self._leader)

    def _flush(self) -> None:
        """Send what is queued, unless another thread is about to."""
        if self._sending.acquire(blocking=False):
            try:
                self._send_queued()
            finally:
                self._sending.release()
        else:
            self._outbox.wake()

    def _send_on(self, on_end: Callable[[], None]) -> None:
        """The thread that sends what others have put."""
        try:
            while self._outbox.wait():
                with self._sending:
                    self._send_queued()
        finally:
            self._session.closed()
            self._send(None)
            on_end()

    def _send_queued(self) -> None:
        while (packet := self._outbox.take()) is not None:
            self._send(packet)
