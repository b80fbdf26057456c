"""Code of the user's that hears what happens in a table."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Sequence

from kourou import threads
from kourou.replay.arrays.array_types import Array, Floats, Integers, Keys, Slots, np
from kourou.replay.protocol.item_batches import SampledItems
from kourou.replay.table.item_columns import ItemArrays

_log = logging.getLogger("kourou.replay")
_MOST_QUEUED = 10_000  # events, of a batch each; further ones are dropped, and counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Items to which the same thing happened, in its order.

    Attributes:
        table: its name.
        keys: [n].
        priorities: [n], after what happened.
        times_sampled: [n], after what happened.
    """

    table: str
    keys: Keys
    priorities: Floats
    times_sampled: Integers


class Extension:
    """Override what you want to hear of.

    It is called in a thread of its own, in the order of events, soon after they happened: it cannot hold the table up.
    What it raises is logged.
    """

    def on_insert(self, event: Event) -> None:
        """Items were inserted."""

    def on_sample(self, event: Event) -> None:
        """Items were sampled; one that was drawn twice is in it twice."""

    def on_update(self, event: Event) -> None:
        """Priorities were changed."""

    def on_delete(self, event: Event) -> None:
        """Items are gone: pushed out, sampled often enough, or deleted by key."""

    def on_reset(self, table: str) -> None:
        """A table was emptied; there is no ``on_delete`` for what was in it."""


class Hooks:
    """Delivers events to extensions.

    Args:
        table: the table's name.
        extensions: who is called, one after the other.
    """

    def __init__(self, table: str, extensions: Sequence[Extension]) -> None:
        self._table = table
        self._extensions = tuple(extensions)
        self._queue: queue.Queue[tuple[str, Event | str] | None] = queue.Queue(_MOST_QUEUED)
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._extensions)

    def on_items(self, what: str, items: ItemArrays, slots: Slots) -> None:
        """Something happened to items: ``what`` is the method to be called."""
        if self._extensions:
            self._event(what, items.keys[slots], items.priorities[slots], items.times_sampled[slots])

    def on_sampled(self, sampled: SampledItems) -> None:
        """Items were sampled."""
        if self._extensions:
            info = sampled.info
            self._event("on_sample", info["key"].copy(), info["priority"].copy(), info["times_sampled"])

    def on_reset(self) -> None:
        """The table was emptied."""
        if self._extensions:
            self._put("on_reset", self._table)

    def _event(self, what: str, keys: Keys, priorities: Floats, times_sampled: Array) -> None:
        times = times_sampled.astype(np.int64)
        self._put(what, Event(table=self._table, keys=keys, priorities=priorities, times_sampled=times))

    def _put(self, what: str, event: Event | str) -> None:
        if self._closed:
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=f"kourou-hooks-{self._table}", daemon=True)
                threads.start(thread)
                self._thread = thread
            self._queue.put_nowait((what, event))
        except (queue.Full, RuntimeError) as error:  # RuntimeError: the system lets no thread be started
            if not self.dropped:
                why = "are too slow" if isinstance(error, queue.Full) else f"cannot be called ({error})"
                _log.warning("the extensions of table %s %s: events are dropped from now on", self._table, why)
            self.dropped += 1

    def close(self) -> None:
        """Deliver what is queued, then end the thread. What happens later is told to nobody."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)  # ends the thread
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            what, event = told
            for extension in self._extensions:
                try:
                    getattr(extension, what)(event)
                except Exception:  # noqa: BLE001 - a hook of the user's may raise anything
                    _log.exception("%s.%s of table %s failed", type(extension).__name__, what, self._table)
