"""One connection of a session: a line of JSON each way, then messages. Both ends, in whichever event loop they are."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

from kourou.runtime.host_agent.session import BrokenSession, Session

_LONGEST_LINE_BYTES = 4096
_WRITE_BYTES = 1 << 16
_BUFFERED_BYTES = 1 << 19  # of what is handed to the system: what comes first waits behind so much


class Link(asyncio.Protocol):
    """What asyncio calls. Its owner calls :meth:`begin` once both lines were exchanged.

    Args:
        first: this end's line, where it speaks first.
    """

    def __init__(
        self,
        on_line: Callable[[Link, dict[str, Any]], None],
        on_closed: Callable[[Link], None],
        first: dict[str, Any] | None = None,
    ) -> None:
        self._on_line = on_line
        self._on_closed = on_closed
        self._first = first
        self._line: bytearray | None = bytearray()
        self._session: Session | None = None
        self._on_message: Callable[..., None] = lambda *_: None
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self.heard_at = time.monotonic()

    # -- its owner ----------------------------------------------------------------------------------------------

    def say(self, line: dict[str, Any]) -> None:
        """Send the line."""
        if self._transport is not None:
            self._transport.write(json.dumps(line).encode() + b"\n")

    def begin(self, session: Session, heard: int, on_message: Callable[..., None], *, answers: bool = False) -> None:
        """From now on messages pass; the other end has heard so much of them.

        Args:
            session: to go on with.
            heard: what the other end has heard of.
            on_message: called with each message.
            answers: this end tells the other one first what it has heard itself.

        Raises:
            BrokenSession: that is another session; nothing was said.
        """
        session.resume(heard)
        if answers:
            self.say({"heard": session.heard})
        self._session, self._on_message = session, on_message
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the connection takes it."""
        if self._session is None or self._transport is None:
            return
        frames: list[bytes] = []
        size = 0
        while not self._paused and (frame := self._session.take()) is not None:
            frames.append(frame)
            size += len(frame)
            if size >= _WRITE_BYTES:
                self._transport.write(b"".join(frames))
                frames, size = [], 0
        if frames:
            self._transport.write(b"".join(frames))

    def show_life(self) -> None:
        """Say that this end lives."""
        if self._session is not None and self._transport is not None and not self._paused:
            self._transport.write(self._session.sign_of_life())

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End it when all was written."""
        if self._transport is not None:
            self._transport.close()

    def own_name(self) -> str:
        """This end's address."""
        return self._address("sockname")

    def peer_name(self) -> str:
        """The other end's address."""
        return self._address("peername")

    def _address(self, which: str) -> str:
        found = self._transport.get_extra_info(which) if self._transport else None
        return str(found[0]).removeprefix("::ffff:").partition("%")[0] if found else ""

    # -- asyncio ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUFFERED_BYTES)
        self.heard_at = time.monotonic()
        if self._first is not None:
            self.say(self._first)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        if self._line is not None:
            self._line += data
            end = self._line.find(b"\n")
            if end < 0 and len(self._line) <= _LONGEST_LINE_BYTES:
                return
            line, data = bytes(self._line[: max(0, end)]), bytes(self._line[end + 1 :])
            self._line = None
            try:
                told = json.loads(line)
                if end < 0 or not isinstance(told, dict):
                    raise ValueError  # noqa: TRY301 - as if it were no JSON
            except (ValueError, RecursionError):
                self.abort()
                return
            self._on_line(self, told)
        if self._session is None or not data:
            return
        try:
            for message in self._session.feed(data):
                self._on_message(*message)
        except BrokenSession:
            self.abort()
            return
        self.flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._transport is not None:
            self._transport.close()  # Python 3.10 does not take one that was lost for closed
        self._transport = self._session = None
        self._on_closed(self)
