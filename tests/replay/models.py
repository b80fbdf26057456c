"""A table that is obviously right: a list of items, one thing at a time, as the specification words it."""

from __future__ import annotations

import dataclasses

from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.selectors import Fifo, Lifo, MaxHeap, MinHeap


def episode_of(key: int) -> int:
    """Every fourth item is an episode by itself; of the others, those that follow one another are of one."""
    return key if key % 4 == 0 else 1000 + key // 4


@dataclasses.dataclass
class ModelItem:
    key: int
    priority: float
    size: int
    inserted: int
    changed: int
    times_sampled: int = 0


class ModelTable:
    """Deterministic selectors only."""

    def __init__(
        self,
        sampler: object,
        remover: object,
        max_size: int,
        limiter: RateLimiter,
        max_times_sampled: int,
        max_bytes: int | None,
    ) -> None:
        self.sampler, self.remover = sampler, remover
        self.max_size, self.max_bytes = max_size, max_bytes
        self.max_times_sampled = max_times_sampled
        self.limiter = limiter
        self.items: list[ModelItem] = []
        self.inserts = self.samples = self.deletes = self.unique = self.clock = 0
        self.forfeited = 0.0
        self.deleted_episodes = 0
        self.waiting_inserts: list[list[tuple[int, float, int]]] = []
        self.waiting_samples: list[list[int]] = []  # of one element: how many are left
        self.drawn: list[tuple[int, int, float, int]] = []  # key, table size, priority, times sampled

    def can_sample(self, count: int) -> bool:
        enough = self.inserts - self.deletes >= self.limiter.min_size_to_sample
        diff = self.inserts * self.limiter.samples_per_insert - self.samples - self.forfeited
        return enough and diff - count >= self.limiter.min_diff

    def can_insert(self, count: int) -> bool:
        if self.inserts + count - self.deletes <= self.limiter.min_size_to_sample:
            return True
        spent = self.samples + self.forfeited
        return (self.inserts + count) * self.limiter.samples_per_insert - spent <= self.limiter.max_diff

    def pick(self, selector: object) -> ModelItem:
        match selector:
            case Fifo():
                return min(self.items, key=lambda item: item.inserted)
            case Lifo():
                return max(self.items, key=lambda item: item.inserted)
            case MinHeap():
                return min(self.items, key=lambda item: (item.priority, item.changed))
            case MaxHeap():
                return min(self.items, key=lambda item: (-item.priority, item.changed))
        raise TypeError(selector)

    def delete(self, item: ModelItem) -> None:
        self.items.remove(item)
        self.deletes += 1
        self.deleted_episodes += episode_of(item.key) not in self.episodes()

    def episodes(self) -> set[int]:
        return {episode_of(item.key) for item in self.items}

    def insert_one(self, key: int, priority: float, size: int) -> None:
        self.items.append(ModelItem(key, priority, size, self.clock, self.clock))
        self.clock += 1
        self.inserts += 1
        while len(self.items) > self.max_size or (
            self.max_bytes is not None and sum(item.size for item in self.items) > self.max_bytes
        ):
            self.delete(self.pick(self.remover))

    def sample_one(self) -> None:
        self.samples += 1
        item = self.pick(self.sampler)
        item.times_sampled += 1
        self.unique += item.times_sampled == 1
        self.drawn.append((item.key, len(self.items), item.priority, item.times_sampled))
        if item.times_sampled == self.max_times_sampled:
            self.delete(item)

    def serve(self) -> None:
        """Inserts go first as long as they may, then samples, until nobody may."""
        moved = True
        while moved:
            moved = False
            while self.waiting_inserts and (not self.waiting_inserts[0] or self.can_insert(1)):
                if self.waiting_inserts[0]:
                    self.insert_one(*self.waiting_inserts[0].pop(0))
                    moved = True
                else:
                    self.waiting_inserts.pop(0)
            while self.waiting_samples and self.items and self.can_sample(1):
                self.sample_one()
                moved = True
                self.waiting_samples[0][0] -= 1
                if not self.waiting_samples[0][0]:
                    self.waiting_samples.pop(0)

    def mutate(self, updates: list[tuple[int, float]], deletes: list[int]) -> int:
        by_key = {item.key: item for item in self.items}
        applied = 0
        for key in dict.fromkeys(deletes):
            if key in by_key:
                item = by_key.pop(key)
                if self.max_times_sampled >= 1:
                    self.forfeited += max(0.0, self.limiter.samples_per_insert - item.times_sampled)
                self.delete(item)
                applied += 1
        last: dict[int, float] = {}
        for key, priority in updates:
            last.pop(key, None)
            last[key] = priority
        for key, priority in last.items():
            if key in by_key:
                by_key[key].priority = priority
                by_key[key].changed = self.clock
                self.clock += 1
                applied += 1
        self.serve()
        return applied
