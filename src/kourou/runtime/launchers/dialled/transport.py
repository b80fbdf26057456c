"""An agent that calls, as the launcher has it: expected, there, away for a moment, or lost."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from kourou import errors, threads
from kourou.runtime.host_agent.dialling import BYE
from kourou.runtime.host_agent.link import Link
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.session import UNREADABLE, Session
from kourou.runtime.launchers.hosts.transport import Transport, TransportEvents
from kourou.shown import described

_END_S = 5.0  # an agent that does not end this long after it was told is left to its own watch


class DialledTransport(Transport):
    """To an agent that calls. What is not :class:`Transport`'s is the loop's.

    Args:
        until: monotonic time by which it is to be there.
    """

    def __init__(
        self, thread: LoopThread, place: int, events: TransportEvents, *, until: float, words: Callable[[], str]
    ) -> None:
        self.place = place
        self.session_id: str | None = None
        self.name: str | None = None
        """What the host calls itself; known once it has answered."""
        self.local = False
        self.tree: str | None = None
        self._thread = thread
        self._events = events
        self._until = until
        self._words = words
        self._session = Session()
        self._session.on_full = events.on_full
        self._scheduled = False
        self._heard_at = 0.0
        self._lost = False
        self._closing = False
        self._link: Link | None = None
        self._telling: threading.Thread | None = None  # of its loss
        self._gone = threading.Event()
        self._end_by = math.inf  # when it is to have ended, once it was told to

    # -- from any thread ----------------------------------------------------------------------------------------

    def put(self, message: tuple[Any, ...], **how: bool) -> None:
        if self.over:
            return
        self._session.put(message, **how)
        if not self._scheduled:
            self._scheduled = True
            self._thread.post(self._flush)

    def send_bulk(self, *message: Any) -> None:
        """Like :meth:`send`, but wait until there is room: for threads that nobody else needs meanwhile."""
        self._session.wait_for_room()
        self.put(message)

    def hang_up(self) -> None:
        """Tell the agent to end; returns at once. Idempotent."""
        self._session.let_go()
        self._end_by = min(self._end_by, time.monotonic() + _END_S)
        self._thread.post(self._hang_up)

    def close(self) -> None:
        """Tell the agent to end, and wait until it has; for many that were told together no longer than for one."""
        self.hang_up()
        self._gone.wait(max(0.0, self._end_by - time.monotonic()))
        if (telling := self._telling) is not None and telling.ident and telling is not threading.current_thread():
            telling.join(max(0.0, self._end_by - time.monotonic()))
        self._thread.post(self._abort)

    # -- in the loop --------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """It is of no use any more."""
        return self._lost or self._closing

    def attach(self, link: Link, session_id: str, name: str, heard: int, *, answers: bool = True) -> None:
        """The agent is here, for the first time or again; ``answers``: it waits to be told so.

        Raises:
            BrokenSession: it is not the one that it was.
        """
        link.begin(self._session, heard, self._tell, answers=answers)
        old, self._link = self._link, link
        if old is not None:
            old.abort()
        self.session_id, self.name = session_id, name
        self._heard_at = time.monotonic()

    def detach(self, link: Link) -> None:
        """The connection is no more; the agent may call again."""
        if link is self._link:
            self._heard_at = max(self._heard_at, link.heard_at)
            self._link = None
            if self.over:
                self._gone.set()

    def look(self, silence_s: float) -> None:
        """Show that the launcher lives, and see whether the agent does."""
        if self.over:
            return
        if self._link is not None:
            self._heard_at = max(self._heard_at, self._link.heard_at)
            self._link.show_life()
        now = time.monotonic()
        if self.session_id is None:
            if now > self._until:
                self.lose("its agent did not call in time")
        elif now - self._heard_at > silence_s:
            away = "its agent said nothing" if self._link is not None else "its agent was not heard of"
            self.lose(f"{away} for {silence_s:g} s")

    def lose(self, what: str) -> None:
        """Whatever it ran is taken for dead."""
        if self.over:
            return
        self._lost = True
        self._session.drop()
        self._abort()
        # The engine may take long to say something, and no other agent would hear of its launcher meanwhile.
        self._telling = threading.Thread(
            target=self._tell_loss, args=(what,), name=f"kourou-lost-{self.place}", daemon=True
        )
        try:
            threads.start(self._telling)
        except RuntimeError:  # there are no more threads
            self._tell_loss(what)

    def _tell_loss(self, what: str) -> None:
        try:
            told = self._words()
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            told = f"    what its engine said is not known: {described(error)}"
        name = self.name or f"host {self.place}"
        loss = errors.AgentFailedError(f"{name}: {what}" + (f"; it was said:\n{told}" if told else ""))
        loss.hostname = name
        self._events.on_lost(loss)

    def _tell(self, kind: str, *arguments: Any) -> None:
        """It counts as heard: if it cannot be used, neither can what follows."""
        if self._lost:
            return
        try:
            if kind == UNREADABLE:
                raise arguments[0]  # noqa: TRY301 - as if its use had raised it
            self._events.on_message(kind, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            self.lose(f"{kind}: {described(error)}")

    def _flush(self) -> None:
        self._scheduled = False
        if self._link is not None:
            self._link.flush()

    def _hang_up(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._link is None:  # nobody is there, or nobody who will not find the door closed
            self._gone.set()
        else:
            self._session.put((BYE,), first=True)
            self._link.flush()

    def _abort(self) -> None:
        if self._link is not None:
            self._link.abort()
