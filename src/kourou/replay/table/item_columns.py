"""The items of a table as columns of arrays: about 70 bytes for each, and no Python object."""

from __future__ import annotations

import time
from typing import Any

from kourou.replay.arrays.array_types import Floats, Integers, Keys, Slots, grown, np
from kourou.replay.protocol.item_batches import INFO_DTYPE, Items, SampledItems

_COLUMNS = ("keys", "priorities", "times_sampled", "inserted_ns", "refs", "sizes", "episodes", "policy_versions")


class ItemArrays:
    """Columns by slot. A slot that is free holds what its last item left."""

    def __init__(self) -> None:
        self.keys: Keys = np.zeros(0, np.uint64)
        self.priorities: Floats = np.zeros(0, np.float64)
        self.times_sampled = np.zeros(0, np.int32)
        self.inserted_ns: Integers = np.zeros(0, np.int64)  # strictly increasing, so it is the order of insertion, too
        self.refs = np.zeros((0, 3), np.int32)
        self.sizes: Integers = np.zeros(0, np.int64)
        self.episodes: Keys = np.zeros(0, np.uint64)
        self.policy_versions: Integers = np.zeros(0, np.int64)
        self._free = np.zeros(0, np.int32)  # a stack of slots that were in use before
        self._free_count = 0
        self._last_ns = 0
        self._top = 0  # slots from here on were never in use

    def place(self, items: Items) -> Slots:
        """Find room for items and write them there, inserted now."""
        count = len(items)
        reused = min(count, self._free_count)
        slots = np.empty(count, np.int64)
        slots[:reused] = self._free[self._free_count - reused : self._free_count][::-1]
        slots[reused:] = np.arange(self._top, self._top + count - reused)
        self._free_count -= reused
        self._top += count - reused
        self._grow(self._top)
        self.keys[slots] = items.keys
        self.priorities[slots] = items.priorities
        self.times_sampled[slots] = 0
        first_ns = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = first_ns + count
        self.inserted_ns[slots] = np.arange(first_ns, self._last_ns)
        self.refs[slots] = items.refs
        self.sizes[slots] = items.sizes
        self.episodes[slots] = items.episodes
        self.policy_versions[slots] = items.policy_versions
        return slots

    def sampled(self, slots: Slots, *, probabilities: Any, table_sizes: Any, times: Any) -> SampledItems:
        """The items in slots, as they are handed out."""
        info = np.empty(len(slots), INFO_DTYPE)
        info["key"] = self.keys[slots]
        info["probability"] = probabilities
        info["table_size"] = table_sizes
        info["priority"] = self.priorities[slots]
        info["times_sampled"] = times
        info["inserted_ns"] = self.inserted_ns[slots]
        info["policy_version"] = self.policy_versions[slots]
        return SampledItems(info=info, refs=self.refs[slots])

    def remove(self, slots: Slots) -> None:
        """Free slots."""
        end = self._free_count + len(slots)
        self._free = grown(self._free, end)
        self._free[self._free_count : end] = slots
        self._free_count = end

    def _grow(self, size: int) -> None:
        if size > len(self.keys):
            for name in _COLUMNS:
                setattr(self, name, grown(getattr(self, name), size))
