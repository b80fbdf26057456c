"""From keys to slots: a hash table in two arrays, asked for many keys at once.

A dict would need about 150 bytes for each item; this takes 24 to 48, and a lookup of 256 keys takes a few NumPy calls.
Open addressing with linear probing: a key lies at the first free place from where its hash says.
"""

from __future__ import annotations

from kourou.replay.arrays.array_types import Integers, Keys, Slots, np

ABSENT = -1
_LEAST = 64
_FREE, _LEFT = np.uint64(0), np.uint64(2**64 - 1)  # never used; used by a key that is gone. No keys themselves.
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: spreads neighbours (Fibonacci hashing)


class KeyMap:
    """Keys are from 1 to 2**64 - 2. Keys in one call are distinct."""

    def __init__(self) -> None:
        self._clear(_LEAST)

    def __len__(self) -> int:
        return self._size

    def find(self, keys: Keys) -> Slots:
        """The slots, with ABSENT for keys that are not in."""
        found = np.full(len(keys), ABSENT, np.int64)
        places = self._homes(keys)
        asking = np.arange(len(keys))
        while len(asking):
            there = self._keys[places]
            hit = there == keys[asking]
            found[asking[hit]] = self._slots[places[hit]]
            on = ~hit & (there != _FREE)
            asking, places = asking[on], (places[on] + 1) & self._mask
        return found

    def insert(self, keys: Keys, slots: Slots) -> None:
        """Put keys in that are not in."""
        if 2 * (self._used + len(keys)) > len(self._keys):
            self._rebuild(len(keys))
        self._size += len(keys)
        places = self._homes(keys)
        waiting = np.arange(len(keys))
        while len(waiting):
            free = self._keys[places] == _FREE  # places of keys that are gone are left for the next rebuild
            self._keys[places[free]] = keys[waiting[free]]  # of those that want the same place, the last one gets it
            won = free & (self._keys[places] == keys[waiting])
            self._slots[places[won]] = slots[waiting[won]]
            self._used += int(np.count_nonzero(won))
            waiting, places = waiting[~won], (places[~won] + 1) & self._mask

    def delete(self, keys: Keys) -> None:
        """Take keys out that are in."""
        places = self._homes(keys)
        asking = np.arange(len(keys))
        while len(asking):
            hit = self._keys[places] == keys[asking]
            self._keys[places[hit]] = _LEFT
            asking, places = asking[~hit], (places[~hit] + 1) & self._mask
        self._size -= len(keys)

    def slots(self) -> Slots:
        """The slots of all keys, in no order."""
        slots: Slots = self._slots[(self._keys != _FREE) & (self._keys != _LEFT)].astype(np.int64)
        return slots

    def some_slots(self, most: int) -> Slots:
        """The slots of all keys, or of some of them, spread evenly, where there are more than about ``most``."""
        places = slice(None, None, max(1, len(self._keys) // (4 * most)))
        keys = self._keys[places]
        slots: Slots = self._slots[places][(keys != _FREE) & (keys != _LEFT)].astype(np.int64)
        return slots

    def _homes(self, keys: Keys) -> Integers:
        with np.errstate(over="ignore"):
            homes: Integers = (keys * _MIX >> self._shift).astype(np.int64)
        return homes

    def _clear(self, capacity: int) -> None:
        self._keys: Keys = np.zeros(capacity, np.uint64)
        self._slots = np.zeros(capacity, np.int32)
        self._mask = capacity - 1
        self._shift = np.uint64(64 - (capacity - 1).bit_length())
        self._size = 0  # keys that are in
        self._used = 0  # places that are not free

    def _rebuild(self, room: int) -> None:
        """Forget the keys that are gone, and have room for ``room`` more."""
        kept = (self._keys != _FREE) & (self._keys != _LEFT)
        keys, slots = self._keys[kept], self._slots[kept]
        wanted = 3 * (len(keys) + room)  # a third full, so that there is no rebuild before that has become a half
        self._clear(max(_LEAST, 1 << (wanted - 1).bit_length()))
        self.insert(keys, slots.astype(np.int64))
