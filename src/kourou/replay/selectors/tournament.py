"""Slots by priority: a tree in which the better of two goes up."""

from __future__ import annotations

import heapq

from kourou.replay.arrays.array_types import Floats, Integers, Slots, grown, np
from kourou.replay.selectors.index import Index

_NOBODY = -1


class TournamentIndex(Index):
    """The lowest, or the highest, priority first; among equals the one that was inserted or updated longest ago.

    Node 1 is the root, node i has the children 2i and 2i+1, and the leaf of a slot is ``leaves + slot``. Each node
    holds the slot that won below it.
    """

    ordered = True

    def __init__(self, *, highest: bool) -> None:
        self._sign = -1.0 if highest else 1.0
        self._leaves = 0
        self._winners: Integers = np.empty(0, np.int64)
        self._ranks = np.empty(0, np.float64)  # by slot: its priority, so that lower is better
        self._stamps = np.empty(0, np.int64)  # by slot: when it was inserted or updated
        self._clock = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, slots: Slots, priorities: Floats) -> None:
        top = int(slots.max())
        if top >= self._leaves:
            self._grow(top + 1)
        self._winners[self._leaves + slots] = slots
        self._size += len(slots)
        self.update(slots, priorities)

    def update(self, slots: Slots, priorities: Floats) -> None:
        """Play the games of these slots again."""
        self._ranks[slots] = self._sign * priorities
        self._stamps[slots] = np.arange(self._clock, self._clock + len(slots))
        self._clock += len(slots)
        self._play(slots)

    def delete(self, slots: Slots) -> None:
        self._winners[self._leaves + slots] = _NOBODY
        self._size -= len(slots)
        self._play(slots)

    def sample(self, count: int) -> tuple[Slots, Floats]:
        """The winner, as often as asked for: taking it does not remove it."""
        return np.full(count, self._winners[1]), np.ones(count)

    def first(self, count: int) -> Slots:
        """The best ``count`` slots: the losers against each one that is taken are the next to be looked at."""
        if count == 1:
            return np.array([self._winners[1]], np.int64)
        open_nodes = [self._entry(1)]
        found: list[int] = []
        for _ in range(min(count, self._size)):
            _, _, slot, node = heapq.heappop(open_nodes)
            found.append(slot)
            while node < self._leaves:
                left = 2 * node
                taken = left if self._winners[left] == slot else left + 1
                other = taken ^ 1
                if self._winners[other] != _NOBODY:
                    heapq.heappush(open_nodes, self._entry(other))
                node = taken
        return np.array(found, np.int64)

    def _entry(self, node: int) -> tuple[float, int, int, int]:
        slot = int(self._winners[node])
        return float(self._ranks[slot]), int(self._stamps[slot]), slot, node

    def _play(self, slots: Slots) -> None:
        nodes = self._leaves + slots
        while nodes[0] > 1:
            nodes = np.unique(nodes >> 1) if len(nodes) > 1 else nodes >> 1
            self._decide(nodes)

    def _decide(self, nodes: Integers) -> None:
        left, right = self._winners[2 * nodes], self._winners[2 * nodes + 1]
        left_rank, right_rank = self._ranks[left], self._ranks[right]
        right_wins = right_rank < left_rank
        right_wins |= (right_rank == left_rank) & (self._stamps[right] < self._stamps[left])
        right_wins |= left == _NOBODY
        right_wins &= right != _NOBODY
        self._winners[nodes] = np.where(right_wins, right, left)

    def _grow(self, size: int) -> None:
        """Room for ``size`` slots."""
        slots = self._winners[self._leaves :]
        leaves = max(64, 1 << (size - 1).bit_length())
        winners = np.full(2 * leaves, _NOBODY, np.int64)
        winners[leaves : leaves + len(slots)] = slots
        self._winners, self._leaves = winners, leaves
        self._ranks = grown(self._ranks, leaves)
        self._stamps = grown(self._stamps, leaves)
        first = leaves
        while first > 1:
            first >>= 1
            self._decide(np.arange(first, 2 * first))
