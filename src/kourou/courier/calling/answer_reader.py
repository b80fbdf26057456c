"""Which thread reads a connection's answers. There is no reader thread between a caller and its answer.

Whoever waits reads, and hands the answers that belong to others to them; when it has its own, it wakes one of those who
still wait to go on reading, or the background thread.
"""

from __future__ import annotations

import threading
import time

from kourou.courier.calling.in_flight import InFlight
from kourou.courier.calling.reentrancy import Entered
from kourou.courier.calling.reply import Reply, waits_for_itself
from kourou.courier.calling.transport import Owner, Transport
from kourou.errors import ProtocolError

_MOST_S = 1e6  # of one wait: the system counts its milliseconds in 31 bits; whoever waits longer waits again


class AnswerReader:
    """For any thread; one at a time has the turn to read, the others wait until it has their answers."""

    def __init__(self, owner: Owner, transport: Transport, in_flight: InFlight, inside: set[int]) -> None:
        self.reads = 0
        self._owner = owner
        self._transport = transport
        self._in_flight = in_flight
        self._inside = inside
        self._turn = threading.Lock()
        self._thread = 0  # that has the turn
        self._waiters: dict[Reply, None] = {}  # those who wait while another thread reads, in order
        self._flushing = 0  # the thread that has the turn, while it writes

    def reads_here(self) -> bool:
        """Whether this thread is reading, further down its stack."""
        return self._thread == threading.get_ident()

    def wait(self, reply: Reply, until: float | None) -> None:
        """Wait for news about ``reply``, until ``until`` at most (``time.monotonic()``); may return early."""
        if not self._transport.pulls:
            reply.sleep(until)
            return
        me, inside = threading.get_ident(), self._inside
        if self._thread == me:
            raise waits_for_itself(reply.method)
        enters = me not in inside  # not by ``Entered``, which would cost too much here
        inside.add(me)
        try:
            if not self._turn.acquire(False) and not self._wait_for_turn(reply, until):
                return
            self._thread = me
            try:
                while reply.waits and (until is None or time.monotonic() < until):
                    self._receive(until)
            finally:
                self._thread = 0
                self._turn.release()
                if self._waiters or self._in_flight.pending or self._in_flight.streams:
                    self._pass_turn_on()
        finally:
            if enters:
                inside.discard(me)

    def read_available(self) -> bool:
        """Take in the answers that are here already, without waiting. False when another thread is at it."""
        if self._flushing == threading.get_ident():  # the turn is this thread's; it finds no room to write
            self._take_in(time.monotonic())
            return True
        with Entered(self._inside):
            return self._transport.pulls and self.read_until(time.monotonic())

    def read_until(self, until: float) -> bool:
        """Read what comes next, until ``until`` at most. False when another thread is at it."""
        if not self._turn.acquire(blocking=False):
            return False
        self._thread = threading.get_ident()
        try:
            self._receive(until)
        finally:
            self._thread = 0
            self._turn.release()
            self._pass_turn_on()
        return True

    def settle(self) -> None:
        """Wait until no other thread reads: the connection has ended, so whoever does is about to stop."""
        if not self.reads_here():
            with self._turn:
                pass

    def _wait_for_turn(self, reply: Reply, until: float | None) -> bool:
        """Wait while another thread reads. True when this thread has the turn instead."""
        self._owner.flush()
        self._waiters[reply] = None
        try:
            if self._turn.acquire(blocking=False):  # the reader left before it could see the new waiter
                return True
            reply.sleep(until)
        finally:
            self._waiters.pop(reply, None)
        return False

    def _pass_turn_on(self) -> None:
        """Wake one of those who wait, to read from now on."""
        for waiter in list(self._waiters):
            if waiter.waits:
                waiter.wake()
                return
        self._owner.reading_stopped()

    # -- with the turn to read --------------------------------------------------------------------------------

    def _receive(self, until: float | None) -> None:
        """Write what was put off, then take in what comes next."""
        reads = self.reads
        self._flushing = threading.get_ident()
        try:
            self._transport.flush()
        except OSError as error:
            self._owner.end(error)
        finally:
            self._flushing = 0
        if self._owner.alive and self.reads == reads:  # else look first at what came while there was no room
            self._take_in(until)

    def _take_in(self, until: float | None) -> None:
        """Wait until ``until`` at most for frames, and deliver them."""
        transport = self._transport
        whole = True
        try:
            if not transport.poll(None if until is None else min(max(0.0, until - time.monotonic()), _MOST_S)):
                return
            whole = False
            self._in_flight.deliver(transport.read())
            whole = True
        except (OSError, ProtocolError) as error:
            whole = True
            self._owner.end(error)
        finally:
            self.reads += 1
            if not whole:  # Ctrl-C between reading and delivering: answers may be lost, so nobody may wait for them
                self._owner.end(ConnectionResetError("interrupted while an answer was read"))
