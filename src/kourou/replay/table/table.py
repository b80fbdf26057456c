"""A table: items that are inserted, sampled and pushed out as its selectors and its limiter say."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from kourou.replay.arrays.array_types import Floats, Integers, Keys, np
from kourou.replay.arrays.signature import Signature
from kourou.replay.protocol.item_batches import Items, NoReferences, References
from kourou.replay.rate_limiters import Queue, RateLimiter, Stack
from kourou.replay.selectors import Fifo, Lifo, Prioritized, Selector
from kourou.replay.table.hooks import Extension, Hooks
from kourou.replay.table.info import TableInfo
from kourou.replay.table.keymap import ABSENT
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest, SampleRequest
from kourou.replay.table.serving import Requests
from kourou.replay.table.state import TableState
from kourou.shown import shown


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
        self._requests = Requests(name, self._hooks)
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
                waiting_inserts=len(self._requests.inserts),
                waiting_samples=len(self._requests.samples),
                waits_s=max((time.monotonic() - request.since for request in self.waiting), default=0.0),
                blocked_on=limiter.describe() if self.waiting else "",
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
            self._requests.inserts[request] = None
            self._serve()

    def sample(self, request: SampleRequest) -> None:
        """Draw as soon as the limiter lets; the request's future tells."""
        with self._lock:
            self._requests.samples[request] = None
            self._serve()

    def withdraw(self, request: InsertRequest | SampleRequest) -> bool:
        """Do nothing more for a request, if it still waits: whether it did.

        What was done stays done; references of what was not are let go. Those of what was drawn are the caller's.
        """
        with self._lock:
            if not self._requests.remove(request, self.state):
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
            gone = state.find(np.unique(deletes))
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
            return self._requests.all

    def maintain(self) -> None:
        """Forget requests that nobody waits for, and log those that have waited for long. A few times a second."""
        with self._lock:
            self._throughput.record(self.state.limiter.inserts, self.state.limiter.samples)
            if self._requests.abandon_unwanted(self.state):
                self._serve()
            self._requests.warn(self.state)

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

    def _serve(self) -> None:
        self._requests.serve(self.state, self._lock)


_WINDOW_S = 5.0  # long enough to be steady, short enough to show that something stopped


class Throughput:
    """Counts at times of the last few seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque()

    def record(self, inserts: int, samples: int) -> None:
        """Note the counts as they are now. To be called a few times a second."""
        now = time.monotonic()
        if self._marks and (inserts < self._marks[-1][1] or samples < self._marks[-1][2]):
            self._marks.clear()  # they were reset
        self._marks.append((now, inserts, samples))
        while len(self._marks) > 1 and self._marks[1][0] < now - _WINDOW_S:
            self._marks.popleft()

    def per_second(self, inserts: int, samples: int) -> tuple[float, float]:
        """Inserts and samples a second; 0 until that can be told."""
        self.record(inserts, samples)
        (start, first_inserts, first_samples), (end, *_) = self._marks[0], self._marks[-1]
        elapsed = end - start
        if elapsed <= 0:
            return 0.0, 0.0
        return (inserts - first_inserts) / elapsed, (samples - first_samples) / elapsed
