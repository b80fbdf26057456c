"""The items of one table under its selectors and its limiter: what happens, without any waiting.

Everything is done for a batch at once where the result is that of doing it one by one, and one by one where it is not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from kourou.replay.arrays.array_types import Floats, Integers, Keys, Slots, np
from kourou.replay.protocol.item_batches import Items, References, SampledItems
from kourou.replay.rate_limiters import LimiterState, RateLimiter
from kourou.replay.selectors.custom import CustomIndex
from kourou.replay.selectors.selectors import Fifo, Selector, make_index
from kourou.replay.table.item_columns import ItemArrays
from kourou.replay.table.keymap import ABSENT, KeyMap

_AGES = 1024  # items whose ages are looked at


class TableState:
    """A table without its waiting rooms. Whoever uses it holds the table's lock.

    Args:
        sampler, remover: which item is sampled, and which one goes when there is no room.
        limiter: whose counts are kept here.
        max_size: items.
        max_bytes: of the items' data, as if they shared nothing; None for no bound.
        max_times_sampled: an item goes after so many samples; below 1 it stays.
        max_policy_lag: an item goes whose policy version is so far below the newest; None lets it stay.
        references: told what is held and what is not any more.
        deleted: told of slots that are about to be deleted, but not by a reset.
    """

    def __init__(  # noqa: PLR0913 - what a table is made of, by name
        self,
        *,
        sampler: Selector,
        remover: Selector,
        limiter: RateLimiter,
        max_size: int,
        max_bytes: int | None,
        max_times_sampled: int,
        max_policy_lag: int | None,
        references: References,
        deleted: Callable[[Slots], None] | None = None,
    ) -> None:
        self._selectors = sampler, remover
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._max_times_sampled = max_times_sampled
        self._max_policy_lag = max_policy_lag
        self.references = references
        self._deleted = deleted
        self.limiter = LimiterState(limiter)
        self.unique_samples = 0  # items that were sampled at least once
        self._start_empty()

    def _start_empty(self) -> None:
        self.items = ItemArrays()
        self.keymap = KeyMap()
        self.episodes = Episodes()
        self.bytes = 0
        self._oldest_policy = 0  # items of versions below this one go, but for those of no version
        self._has_old = False
        sampler, remover = self._selectors
        self.sampler = make_index(sampler, self._keys_of, self._slot_of)
        self.remover = make_index(remover, self._keys_of, self._slot_of)
        custom = isinstance(self.sampler, CustomIndex) or isinstance(self.remover, CustomIndex)
        whole_bytes = self._max_bytes is None or isinstance(remover, Fifo)
        self._removes_in_batches = self.remover.ordered and whole_bytes and not custom
        self.inserts_one_by_one = custom

    def __len__(self) -> int:
        return len(self.sampler)

    # -- inserting ------------------------------------------------------------------------------------------------

    def check(self, items: Items) -> None:
        """Raise ValueError when these items can never be inserted. Nothing is changed."""
        self.sampler.check(items.priorities)
        self.remover.check(items.priorities)
        if self._max_bytes is not None and len(items) and int(items.sizes.max()) > self._max_bytes:
            raise ValueError(f"an item of {items.sizes.max()} bytes never fits into max_bytes={self._max_bytes}")
        if not items.keys.all() or (items.keys == np.uint64(2**64 - 1)).any():
            raise ValueError("keys of items are from 1 to 2**64 - 2")

    def insertable(self, count: int) -> int:
        """How many of ``count`` items the limiter lets in now."""
        return self.limiter.insertable(count, self._max_size)

    def insert(self, items: Items) -> Iterator[int]:
        """Insert items. A key that is in gets the new priority only.

        Yields, again and again, how many more of them are in now: their references are the table's, or let go.

        Raises:
            Exception: whatever a selector of the user's raises.
        """
        known = self.keymap.find(items.keys)
        if (known != ABSENT).any() or (len(items) > 1 and len(np.unique(items.keys)) < len(items)):
            for index in range(len(items)):
                yield from self._insert_or_update(items.part(index, index + 1))
            return
        room = self._max_size - len(self)
        fits = len(items) <= room and (
            self._max_bytes is None or self.bytes + int(items.sizes.sum()) <= self._max_bytes
        )
        if self.inserts_one_by_one or not (fits or self._removes_in_batches):
            for index in range(len(items)):
                self._take_in(items.part(index, index + 1))
                yield 1
                self._make_room()
            return
        self._take_in(items)
        yield len(items)
        self._make_room()

    def restore(self, items: Items, times_sampled: Integers, inserted_ns: Integers) -> None:
        """Take items of an earlier run in, the oldest first. What does not fit goes as the remover says."""
        slots = self._take_in(items)
        self.items.times_sampled[slots] = times_sampled
        self.items.inserted_ns[slots] = inserted_ns
        self._make_room()

    def _insert_or_update(self, item: Items) -> Iterator[int]:
        slots = self.keymap.find(item.keys)
        if slots[0] == ABSENT:
            self._take_in(item)
            yield 1
            self._make_room()
            return
        self.update(slots, item.priorities)
        self.references.release(item.refs)
        yield 1

    def _take_in(self, items: Items) -> Slots:
        slots = self.items.place(items)
        try:
            self.sampler.insert(slots, items.priorities)
            try:
                self.remover.insert(slots, items.priorities)
            except BaseException:
                self.sampler.delete(slots)
                raise
        except BaseException:
            self.items.remove(slots)
            raise
        self.keymap.insert(items.keys, slots)
        self.episodes.add(items.keys, items.episodes)
        self.bytes += int(items.sizes.sum())
        self.limiter.inserts += len(items)
        if self._max_policy_lag is not None and len(items):
            self._note_versions(items.policy_versions, self._max_policy_lag)
        return slots

    def _note_versions(self, versions: Integers, max_lag: int) -> None:
        oldest = max(self._oldest_policy, int(versions.max()) - max_lag)
        self._has_old |= oldest > self._oldest_policy or int(versions.min()) < oldest
        self._oldest_policy = oldest

    def _make_room(self) -> None:
        """Let go what old weights made, and then let the remover choose what goes until everything fits."""
        if self._has_old:
            self._has_old = False
            slots = self.slots()
            versions = self.items.policy_versions[slots]
            old = slots[(versions >= 0) & (versions < self._oldest_policy)]
            if len(old):
                self.delete_by_key(old)
        while len(self) > self._max_size or (self._max_bytes is not None and self.bytes > self._max_bytes):
            excess = max(1, len(self) - self._max_size)
            if self.remover.ordered:
                slots = self.remover.first(excess)
                if self._max_bytes is not None and len(self) <= self._max_size:
                    slots = self.remover.first(64)
                    enough = np.cumsum(self.items.sizes[slots]) >= self.bytes - self._max_bytes
                    slots = slots[: int(enough.argmax()) + 1] if enough.any() else slots
                self.delete(slots)
            else:
                self.delete(self.remover.sample(1)[0])

    # -- sampling -------------------------------------------------------------------------------------------------

    def sample(self, count: int) -> SampledItems | None:
        """Draw up to ``count`` items, as many as the limiter lets; None when it lets none.

        What a user's selector raises passes through; what was drawn before is let go.
        """
        parts: list[SampledItems] = []
        taken = 0
        try:
            while taken < count:
                allowed = self.limiter.samplable(count - taken) if len(self) else 0
                if not allowed:
                    break
                part = self._draw(allowed)
                parts.append(part)
                taken += len(part)
            return SampledItems.joined(parts) if parts else None
        except BaseException:
            for part in parts:
                self.references.release(part.refs)
            raise

    def samplable_at_once(self, count: int) -> int:
        """How many of ``count`` items can be drawn now; 0 where draws delete, since that cannot be said in advance."""
        return self.limiter.samplable(count) if len(self) and self._max_times_sampled < 1 else 0

    def _draw(self, count: int) -> SampledItems:
        """At least one draw, at most ``count``, and the deletions that they bring."""
        limit = self._max_times_sampled
        size = len(self)
        if limit < 1:
            slots, probabilities = self.sampler.sample(count)
            return self._picked(slots, probabilities, size)
        if limit == 1:
            distinct = self.sampler.sample_distinct(min(count, self._sheddable()))
            if distinct is not None:
                return self._picked(*distinct, size - np.arange(len(distinct[0])))
        if self.sampler.ordered:
            return self._draw_in_order(count, limit)
        slots, probabilities = self.sampler.sample(count)
        last = self._ranks(slots) + self.items.times_sampled[slots] >= limit
        if last.any():  # from the first draw that deletes its item on, the others would have been different
            end = int(last.argmax()) + 1
            slots, probabilities = slots[:end], probabilities[:end]
        return self._picked(slots, probabilities, size)

    def _sheddable(self) -> int:
        """Samples that may each delete an item before the table is too small to be sampled."""
        return len(self) - self.limiter.limiter.min_size_to_sample + 1

    def _draw_in_order(self, count: int, limit: int) -> SampledItems:
        slots = self.sampler.first(min(count, self._sheddable()))
        left = limit - self.items.times_sampled[slots]
        drawn = np.repeat(slots, left)[:count]
        gone = np.repeat(np.arange(len(slots)), left)[:count]  # items deleted before each draw
        return self._picked(drawn, np.ones(len(drawn)), len(self) - gone)

    def _picked(self, slots: Slots, probabilities: Floats, sizes: Slots | int) -> SampledItems:
        """Count the draws, hold their data, and delete the items that were sampled often enough."""
        items = self.items
        ranks = self._ranks(slots)
        times = items.times_sampled[slots] + ranks
        items.times_sampled[slots] = times  # of a slot that is there twice, the last value stays: the larger one
        self.unique_samples += int(np.count_nonzero(times == 1))
        self.limiter.samples += len(slots)
        sampled = items.sampled(slots, probabilities=probabilities, table_sizes=sizes, times=times)
        self.references.acquire(sampled.refs)
        if self._max_times_sampled >= 1:
            done = slots[times == self._max_times_sampled]
            if len(done):
                self.delete(done)
        return sampled

    @staticmethod
    def _ranks(slots: Slots) -> Slots:
        """For each draw, how often its slot was drawn up to and including it: 1, and more for repetitions."""
        count = len(slots)
        if count == 1:
            return np.ones(1, np.int64)
        order = np.argsort(slots, kind="stable")
        arranged = slots[order]
        starts = np.empty(count, np.bool_)
        starts[0] = True
        np.not_equal(arranged[1:], arranged[:-1], out=starts[1:])
        positions = np.arange(count)
        ranks = np.empty(count, np.int64)
        ranks[order] = positions - np.maximum.accumulate(np.where(starts, positions, 0)) + 1
        return ranks

    def find(self, keys: Keys) -> Slots:
        """The slots of those keys that are in."""
        slots = self.keymap.find(keys)
        found: Slots = slots[slots != ABSENT]
        return found

    # -- changing -------------------------------------------------------------------------------------------------

    def update(self, slots: Slots, priorities: Floats) -> None:
        """Change priorities of slots, which are distinct."""
        self.sampler.update(slots, priorities)
        self.remover.update(slots, priorities)
        self.items.priorities[slots] = priorities

    def delete(self, slots: Slots) -> None:
        """Delete items, and let go of their data."""
        if self._deleted is not None:
            self._deleted(slots)
        self.sampler.delete(slots)
        self.remover.delete(slots)
        self.keymap.delete(self.items.keys[slots])
        self.episodes.remove(self.items.keys[slots], self.items.episodes[slots])
        self.bytes -= int(self.items.sizes[slots].sum())
        self.limiter.deletes += len(slots)
        self.references.release(self.items.refs[slots])
        self.items.remove(slots)

    def delete_by_key(self, slots: Slots) -> None:
        """Delete items because somebody asked for it."""
        if self._max_times_sampled >= 1:
            for times in self.items.times_sampled[slots].tolist():
                self.limiter.forfeit(times)
        self.delete(slots)

    def reset(self) -> None:
        """Delete everything and count from 0."""
        slots = self.slots()
        if len(slots):
            self.references.release(self.items.refs[slots])
        self._start_empty()
        self.limiter.reset()
        self.unique_samples = 0

    def slots(self) -> Slots:
        """All slots in use, the oldest item first."""
        slots = self.keymap.slots()
        return slots[np.argsort(self.items.inserted_ns[slots])]

    def ages_s(self) -> tuple[float, float, float] | None:
        """Seconds since the youngest item, one in the middle, and the oldest were inserted; None for no items.

        Where there are many, some of them are looked at.
        """
        if not len(self):
            return None
        slots = self.keymap.some_slots(_AGES)
        if not len(slots):
            return None  # so few items are left of so many that chance missed all of them
        ages = (time.time_ns() - self.items.inserted_ns[slots]) / 1e9
        return float(ages.min()), float(np.median(ages)), float(ages.max())

    def _keys_of(self, slots: Slots) -> Keys:
        return self.items.keys[slots]

    def _slot_of(self, key: int) -> int:
        slot = int(self.keymap.find(np.array([key], np.uint64))[0])
        if slot == ABSENT:
            raise KeyError(f"the selector picked the item {key}, which the table does not have")
        return slot


class Episodes:
    """The episodes of one table's items. An item whose episode is its own key is an episode by itself.

    Attributes:
        deleted: how often the last item of an episode went.
    """

    def __init__(self) -> None:
        self._items: Counter[int] = Counter()  # by episode
        self._alone = 0
        self.deleted = 0

    def __len__(self) -> int:
        return len(self._items) + self._alone

    def add(self, keys: Keys, episodes: Keys) -> None:
        """Items came in."""
        several = episodes[episodes != keys].tolist()
        self._alone += len(keys) - len(several)
        self._items.update(several)

    def remove(self, keys: Keys, episodes: Keys) -> None:
        """Items went."""
        several = episodes[episodes != keys].tolist()
        alone = len(keys) - len(several)
        self._alone -= alone
        self.deleted += alone
        for episode, count in Counter(several).items():
            if self._items[episode] > count:
                self._items[episode] -= count
            else:
                del self._items[episode]
                self.deleted += 1
