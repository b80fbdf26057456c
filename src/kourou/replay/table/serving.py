"""Requests that wait for a table's limiter, and how they are served: as soon as it lets, in the order of arrival."""

from __future__ import annotations

import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Collection

from kourou.replay.table.hooks import Hooks
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest, SampleRequest
from kourou.replay.table.state import TableState
from kourou.waits import PATIENCE_S

_log = logging.getLogger("kourou.replay")

_NOT_THERE = object()


class Requests:
    """Those of one table, whose lock is held by whoever calls.

    Args:
        table: its name.
        hooks: told of what is done.
    """

    def __init__(self, table: str, hooks: Hooks) -> None:
        self._table = table
        self._hooks = hooks
        self.inserts: OrderedDict[InsertRequest, None] = OrderedDict()
        self.samples: OrderedDict[SampleRequest, None] = OrderedDict()
        self._warned: set[str] = set()  # that some of these have been waiting for long

    @property
    def all(self) -> list[InsertRequest | SampleRequest]:
        """All that wait."""
        return [*self.inserts, *self.samples]

    def serve(self, state: TableState, lock: TableLock) -> None:
        """Inserts go on as far as they may, then samples, in turn until nobody may."""
        moved = True
        while moved:
            moved = False
            while self._serve_insert(state, lock):
                moved = True
            while self._serve_sample(state, lock):
                moved = True

    def remove(self, request: InsertRequest | SampleRequest, state: TableState) -> bool:
        """Take a request from those that wait, if it is one. References of what was drawn stay held."""
        if isinstance(request, SampleRequest):
            return self.samples.pop(request, _NOT_THERE) is None
        was_there = self.inserts.pop(request, _NOT_THERE) is None
        if was_there:
            _release(request, state)
        return was_there

    def abandon_unwanted(self, state: TableState) -> bool:
        """Forget those that nobody waits for any more; whether there were any."""
        unwanted = [request for request in self.all if not request.wanted()]
        for request in unwanted:
            self._abandon(request, state)
        return bool(unwanted)

    def warn(self, state: TableState) -> None:
        """Log that some have been waiting for long, once until none wait any more."""
        self._warn("an insert", self.inserts, state)
        self._warn("a sample", self.samples, state)

    def _warn(self, what: str, waiting: Collection[InsertRequest | SampleRequest], state: TableState) -> None:
        first = next(iter(waiting), None)
        if first is None:
            self._warned.discard(what)
        elif what not in self._warned and time.monotonic() - first.since > PATIENCE_S:
            self._warned.add(what)
            behind = f", and {len(waiting) - 1} behind it" if len(waiting) > 1 else ""
            why = state.limiter.describe()
            _log.warning("%s of table %s has been waiting for %.0f s%s: %s", what, self._table, PATIENCE_S, behind, why)

    def _serve_insert(self, state: TableState, lock: TableLock) -> bool:
        """Whether anything was done for the first insert that waits."""
        if not self.inserts:
            return False
        request = next(iter(self.inserts))
        if not request.wanted():
            self._abandon(request, state)
            return True
        rest = request.rest()
        count = state.insertable(len(rest))
        if not count and len(rest):
            if not len(state.find(rest.keys[:1])):
                return False
            count = 1  # it is in already: this changes its priority, which need not wait
        part = rest.part(0, min(count, 1) if state.inserts_one_by_one else count)
        try:
            if len(part):
                for more in state.insert(part):
                    request.done += more
                if self._hooks:
                    self._hooks.on_items("on_insert", state.items, state.find(part.keys))
        except Exception as error:  # noqa: BLE001 - a selector of the user's may raise anything
            del self.inserts[request]
            _fail(request, error, state, lock)
            return True
        if request.done == len(request.items):
            del self.inserts[request]
            lock.after_release(functools.partial(request.future.set_result, None))
        return True

    def _serve_sample(self, state: TableState, lock: TableLock) -> bool:
        if not self.samples:
            return False
        request = next(iter(self.samples))
        if not request.wanted():
            self._abandon(request, state)
            return True
        if request.most > request.left and not request.parts:
            request.left *= max(1, state.samplable_at_once(request.most) // request.left)
        try:
            sampled = state.sample(request.left)
        except Exception as error:  # noqa: BLE001 - a selector of the user's may raise anything
            del self.samples[request]
            _fail(request, error, state, lock)
            return True
        if sampled is None:
            return False
        request.parts.append(sampled)
        request.left -= len(sampled)
        self._hooks.on_sampled(sampled)
        if not request.left:
            del self.samples[request]
            lock.after_release(functools.partial(request.future.set_result, None))
        return True

    def _abandon(self, request: InsertRequest | SampleRequest, state: TableState) -> None:
        """Nobody waits for a request any more."""
        if self.remove(request, state) and isinstance(request, SampleRequest):
            _release(request, state)


def _fail(request: InsertRequest | SampleRequest, error: Exception, state: TableState, lock: TableLock) -> None:
    _release(request, state)
    lock.after_release(functools.partial(request.future.set_exception, error))


def _release(request: InsertRequest | SampleRequest, state: TableState) -> None:
    """Release the references that a request holds: to what was not inserted, or was drawn and is not wanted."""
    held = [request.rest()] if isinstance(request, InsertRequest) else request.parts
    for part in held:
        state.references.release(part.refs)
    if isinstance(request, SampleRequest):
        request.parts.clear()
