"""A table: items that are inserted, sampled and pushed out as its selectors and its limiter say."""

from __future__ import annotations

import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

from kourou.replay.arrays.array_types import Floats, Integers, Keys, Slots, np
from kourou.replay.arrays.signature import Signature
from kourou.replay.protocol.item_batches import Items, NoReferences, References
from kourou.replay.rate_limiters import Queue, RateLimiter, Stack
from kourou.replay.selectors import Fifo, Lifo, Prioritized, Selector
from kourou.replay.table.hooks import Extension, Hooks
from kourou.replay.table.info import TableInfo
from kourou.replay.table.keymap import ABSENT
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest, SampleRequest
from kourou.replay.table.state import TableState
from kourou.replay.table.throughput import Throughput
from kourou.shown import shown
from kourou.waits import PATIENCE_S

_log = logging.getLogger("kourou.replay")

_NOT_THERE = object()


class Table:
    """Items under one name.

    Args:
        name: not empty.
        sampler: which item is sampled.
        remover: which item goes when there are more than ``max_size``; the new one may be it.
        max_size: items; at least 1.
        rate_limiter: when inserts and samples wait.
        max_times_sampled: an item goes after so many samples; 0 lets it stay.
        extensions: told of what happens.
        signature: nested :class:`TensorSpec` of what the items of this table look like; None takes anything.
        max_bytes: of the items' data, counting what overlapping items share for each of them; None for no bound.
        max_policy_lag: an item goes once its policy version is so far below the newest that an item came with, and is
            not sampled any more; None lets it stay, as do items whose writers said no version.

    Raises:
        ValueError: an argument out of its range.
        TypeError: a selector, a limiter or a signature that is none.
    """

    def __init__(  # noqa: PLR0913 - the order and the names of Reverb's
        self,
        name: str,
        sampler: Selector,
        remover: Selector,
        max_size: int,
        rate_limiter: RateLimiter,
        max_times_sampled: int = 0,
        extensions: Sequence[Extension] = (),
        signature: Any = None,
        *,
        max_bytes: int | None = None,
        max_policy_lag: int | None = None,
    ) -> None:
        if not name:
            raise ValueError("a table has a name")
        if max_size < 1 or (max_bytes is not None and max_bytes < 1):
            raise ValueError(f"table {name}: max_size={max_size}, max_bytes={max_bytes}; both are at least 1")
        if max_policy_lag is not None and max_policy_lag < 0:
            raise ValueError(f"table {name}: max_policy_lag is 0 or more, not {max_policy_lag}")
        if not isinstance(rate_limiter, RateLimiter):
            raise TypeError(
                f"table {name}: a rate limiter is one of kourou.replay.rate_limiters, not {shown(rate_limiter)}"
            )
        self._options: dict[str, Any] = {
            "name": name,
            "sampler": sampler,
            "remover": remover,
            "max_size": max_size,
            "rate_limiter": rate_limiter,
            "max_times_sampled": max_times_sampled,
            "extensions": tuple(extensions),
            "signature": None if signature is None else Signature.of(signature),
            "max_bytes": max_bytes,
            "max_policy_lag": max_policy_lag,
        }
        self._hooks = Hooks(name, extensions)
        self._lock = TableLock()
        self._inserts: OrderedDict[InsertRequest, None] = OrderedDict()
        self._samples: OrderedDict[SampleRequest, None] = OrderedDict()
        self._warned: set[str] = set()  # that some of these have been waiting for long
        self._throughput = Throughput()
        self.state = self._new_state(NoReferences())

    def _new_state(self, references: References) -> TableState:
        """A state without items."""
        options = self._options
        return TableState(
            sampler=options["sampler"],
            remover=options["remover"],
            limiter=options["rate_limiter"],
            max_size=options["max_size"],
            max_bytes=options["max_bytes"],
            max_times_sampled=options["max_times_sampled"],
            max_policy_lag=options.get("max_policy_lag"),  # checkpoints of earlier versions have none
            references=references,
            deleted=(lambda slots: self._hooks.on_items("on_delete", self.state.items, slots)) if self._hooks else None,
        )

    @classmethod
    def queue(cls, name: str, max_size: int, extensions: Sequence[Extension] = (), signature: Any = None) -> Table:
        """First in, first out, each item once; inserts wait while it is full, samples while it is empty."""
        return cls(name, Fifo(), Fifo(), max_size, Queue(max_size), 1, extensions, signature)

    @classmethod
    def stack(cls, name: str, max_size: int, extensions: Sequence[Extension] = (), signature: Any = None) -> Table:
        """Last in, first out, each item once; inserts wait while it is full, samples while it is empty."""
        return cls(name, Lifo(), Lifo(), max_size, Stack(max_size), 1, extensions, signature)

    def replace(self, **overrides: Any) -> Table:
        """A new, empty table like this one, with some arguments replaced."""
        return type(self)(**{**self._options, "rate_limiter": self.state.limiter.limiter, **overrides})

    def __repr__(self) -> str:
        return f"<table {self.name} of {len(self)} items>"

    def __len__(self) -> int:
        return len(self.state)

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self._options["name"]
        return name

    @property
    def signature(self) -> Signature | None:
        """What its items look like; None for anything."""
        signature: Signature | None = self._options["signature"]
        return signature

    @property
    def takes_negative(self) -> bool:
        """Whether priorities may be below 0."""
        return not any(isinstance(self._options[key], Prioritized) for key in ("sampler", "remover"))

    @property
    def info(self) -> TableInfo:
        """The table as it is now."""
        with self._lock:
            state, limiter = self.state, self.state.limiter
            options = {key: self._options[key] for key in self._options if key not in {"extensions", "rate_limiter"}}
            inserts_per_s, samples_per_s = self._throughput.per_second(limiter.inserts, limiter.samples)
            return TableInfo(
                **options,
                rate_limiter=limiter.limiter,
                current_size=len(state),
                current_bytes=state.bytes,
                inserts=limiter.inserts,
                samples=limiter.samples,
                deletes=limiter.deletes,
                num_unique_samples=state.unique_samples,
                num_episodes=len(state.episodes),
                num_deleted_episodes=state.episodes.deleted,
                inserts_per_s=inserts_per_s,
                samples_per_s=samples_per_s,
                ages_s=state.ages_s(),
                waiting_inserts=len(self._inserts),
                waiting_samples=len(self._samples),
                waits_s=max((time.monotonic() - request.since for request in self.waiting), default=0.0),
                blocked_on=limiter.describe() if self._inserts or self._samples else "",
                hooks_dropped=self._hooks.dropped,
            )

    def can_sample(self, num_samples: int = 1) -> bool:
        """Whether the limiter lets so many samples pass now; deletions that they bring are not looked ahead at."""
        with self._lock:
            return self.state.limiter.can_sample(num_samples)

    def can_insert(self, num_inserts: int = 1) -> bool:
        """Whether the limiter lets so many inserts pass now."""
        with self._lock:
            return self.state.limiter.can_insert(num_inserts)

    def set_rate_limiter(self, rate_limiter: RateLimiter) -> None:
        """Use another limiter from now on, with the counts as they are. Whoever may go on does at once."""
        if not isinstance(rate_limiter, RateLimiter):
            raise TypeError(f"a rate limiter is one of kourou.replay.rate_limiters, not {shown(rate_limiter)}")
        with self._lock:
            self.state.limiter.limiter = rate_limiter
            self._serve()

    # -- what a server does ---------------------------------------------------------------------------------------

    def adopt(self, lock: TableLock, references: References) -> None:
        """Become part of a server: under its lock, with its data."""
        self._lock = lock
        self.state.references = references

    def insert(self, request: InsertRequest) -> None:
        """Insert as soon as the limiter lets; the request's future tells.

        Raises:
            ValueError: a priority that the selectors do not take; nothing was changed.
        """
        with self._lock:
            self.state.check(request.items)
            self._inserts[request] = None
            self._serve()

    def sample(self, request: SampleRequest) -> None:
        """Draw as soon as the limiter lets; the request's future tells."""
        with self._lock:
            self._samples[request] = None
            self._serve()

    def withdraw(self, request: InsertRequest | SampleRequest) -> bool:
        """Do nothing more for a request, if it still waits: whether it did.

        What was done stays done; references of what was not are let go. Those of what was drawn are the caller's.
        """
        with self._lock:
            if not self._remove(request):
                return False
            self._serve()
            return True

    def mutate(self, keys: Keys, priorities: Floats, deletes: Keys) -> int:
        """Delete items, then change priorities; of a key given twice the last priority holds.

        Returns:
            how many of the keys were there.

        Raises:
            ValueError: a priority that the selectors do not take; nothing was changed.
        """
        with self._lock:
            state = self.state
            state.sampler.check(priorities)
            state.remover.check(priorities)
            gone = self._find(np.unique(deletes))
            if len(gone):
                state.delete_by_key(gone)
            last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
            last.sort()
            slots = state.keymap.find(keys[last])
            known = slots != ABSENT
            slots = slots[known]
            if len(slots):
                state.update(slots, priorities[last][known])
                self._hooks.on_items("on_update", state.items, slots)
            self._serve()
            return len(gone) + len(slots)

    def find(self, keys: Keys) -> Slots:
        """The slots of those keys that are in."""
        with self._lock:
            return self._find(keys)

    def reset(self) -> None:
        """Delete all items and count from 0. Requests that wait stay."""
        with self._lock:
            self.state.reset()
            self._hooks.on_reset()
            self._serve()

    @property
    def waiting(self) -> list[InsertRequest | SampleRequest]:
        """What waits for the limiter."""
        with self._lock:
            return [*self._inserts, *self._samples]

    def maintain(self) -> None:
        """Forget requests that nobody waits for, and log those that have waited for long. A few times a second."""
        with self._lock:
            self._throughput.record(self.state.limiter.inserts, self.state.limiter.samples)
            unwanted = [request for request in self.waiting if not request.wanted()]
            for request in unwanted:
                self._abandon(request)
            if unwanted:
                self._serve()
            self._warn("an insert", self._inserts)
            self._warn("a sample", self._samples)

    def _warn(self, what: str, waiting: Collection[InsertRequest | SampleRequest]) -> None:
        """Say that some have been waiting for long, once until none wait any more."""
        first = next(iter(waiting), None)
        if first is None:
            self._warned.discard(what)
        elif what not in self._warned and time.monotonic() - first.since > PATIENCE_S:
            self._warned.add(what)
            behind = f", and {len(waiting) - 1} behind it" if len(waiting) > 1 else ""
            why = self.state.limiter.describe()
            _log.warning("%s of table %s has been waiting for %.0f s%s: %s", what, self.name, PATIENCE_S, behind, why)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that would make it anew, but for its extensions."""
        return {**self._options, "rate_limiter": self.state.limiter.limiter, "extensions": ()}

    def configure(self, options: dict[str, Any]) -> None:
        """Become what these options describe. Only while it is empty."""
        self._options = {**options, "extensions": self._options["extensions"]}
        self.state = self._new_state(self.state.references)

    def restore(self, items: Items, times_sampled: Integers, inserted_ns: Integers) -> None:
        """Take items of an earlier run in, the oldest first, as far as there is room. References are the table's."""
        with self._lock:
            self.state.check(items)
            if len(items):
                self.state.restore(items, times_sampled, inserted_ns)

    def close(self) -> None:
        """End the threads of extensions. Requests that wait are left to their owners."""
        self._hooks.close()

    # -- serving --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Inserts go on as far as they may, then samples, in turn until nobody may; each in the order of arrival."""
        moved = True
        while moved:
            moved = False
            while self._serve_insert():
                moved = True
            while self._serve_sample():
                moved = True

    def _serve_insert(self) -> bool:
        """Whether anything was done for the first insert that waits."""
        if not self._inserts:
            return False
        request = next(iter(self._inserts))
        if not request.wanted():
            self._abandon(request)
            return True
        rest = request.rest()
        count = self.state.insertable(len(rest))
        if not count and len(rest):
            if not len(self._find(rest.keys[:1])):
                return False
            count = 1  # it is in already: this changes its priority, which need not wait
        part = rest.part(0, min(count, 1) if self.state.inserts_one_by_one else count)
        try:
            if len(part):
                for more in self.state.insert(part):
                    request.done += more
                if self._hooks:
                    self._hooks.on_items("on_insert", self.state.items, self._find(part.keys))
        except Exception as error:  # noqa: BLE001 - a selector of the user's may raise anything
            del self._inserts[request]
            self._fail(request, error)
            return True
        if request.done == len(request.items):
            del self._inserts[request]
            self._lock.after_release(functools.partial(request.future.set_result, None))
        return True

    def _serve_sample(self) -> bool:
        if not self._samples:
            return False
        request = next(iter(self._samples))
        if not request.wanted():
            self._abandon(request)
            return True
        if request.most > request.left and not request.parts:
            request.left *= max(1, self.state.samplable_at_once(request.most) // request.left)
        try:
            sampled = self.state.sample(request.left)
        except Exception as error:  # noqa: BLE001 - a selector of the user's may raise anything
            del self._samples[request]
            self._fail(request, error)
            return True
        if sampled is None:
            return False
        request.parts.append(sampled)
        request.left -= len(sampled)
        self._hooks.on_sampled(sampled)
        if not request.left:
            del self._samples[request]
            self._lock.after_release(functools.partial(request.future.set_result, None))
        return True

    def _fail(self, request: InsertRequest | SampleRequest, error: Exception) -> None:
        self._release(request)
        self._lock.after_release(functools.partial(request.future.set_exception, error))

    def _abandon(self, request: InsertRequest | SampleRequest) -> None:
        """Nobody waits for a request any more."""
        if self._remove(request) and isinstance(request, SampleRequest):
            self._release(request)

    def _remove(self, request: InsertRequest | SampleRequest) -> bool:
        """Take a request from those that wait, if it is one. References of what was drawn stay held."""
        if isinstance(request, SampleRequest):
            return self._samples.pop(request, _NOT_THERE) is None
        was_there = self._inserts.pop(request, _NOT_THERE) is None
        if was_there:
            self._release(request)
        return was_there

    def _release(self, request: InsertRequest | SampleRequest) -> None:
        """Release the references that a request holds: to what was not inserted, or was drawn and is not wanted."""
        held = [request.rest()] if isinstance(request, InsertRequest) else request.parts
        for part in held:
            self.state.references.release(part.refs)
        if isinstance(request, SampleRequest):
            request.parts.clear()

    def _find(self, keys: Keys) -> Slots:
        slots = self.state.keymap.find(keys)
        found: Slots = slots[slots != ABSENT]
        return found
