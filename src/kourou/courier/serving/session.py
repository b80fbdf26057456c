"""The server's end of one connection: takes frames, and makes calls of them. The same for every lane."""

from __future__ import annotations

import time
from collections.abc import Callable

from kourou.courier.serving.call import Caller, RunningCall
from kourou.courier.serving.call_info import Peer
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.wire.frames import Frame, Kind
from kourou.errors import ProtocolError, RpcError

_MAX_CREDIT = 1 << 20  # items; more than any window, so a sign of a broken peer


class Session(Caller):
    """One connection."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        peer: Peer,
        send: Callable[[Frame], None],
        is_congested: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(dispatcher.handlers, peer, send, is_congested)
        self._dispatcher = dispatcher
        dispatcher.open(self)

    def accept(self, frame: Frame) -> RunningCall | None:
        """Act on a frame, except that a call is returned to be run: by ``execution.run`` here and now, or ``enqueue``.

        Raises:
            ProtocolError: a client does not send such frames.
        """
        kind, call_id, number, name, _, _ = frame
        if kind != Kind.CALL:
            self._control(kind, call_id, number)
            return None
        if not number >= 0 or call_id in self.calls:  # the first is false for NaN, too
            raise ProtocolError(f"a call with the time-out {number} and the number {call_id}")
        call = RunningCall(self, frame, time.monotonic() + number if number else None)
        handlers = self.handlers
        try:
            call.method = handlers.methods.get(name)
        except RpcError as error:
            call.refuse(error)
            return None
        if self._dispatcher.stopping:
            refusal = self._dispatcher.refusal(f"{name}: {handlers.name} is stopping")
            if refusal is not None:
                call.refuse(refusal)
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
            if call is not None and call.stream is not None and 0 <= number < _MAX_CREDIT:
                call.stream.credit(int(number))
        else:
            raise ProtocolError(f"a client sent a frame of kind {kind}")

    def closed(self) -> None:
        """The client is gone: its calls are cancelled."""
        self._dispatcher.close(self)
        self.gone()
