"""What goes into a table and what comes out of it, many items at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from kourou.replay.arrays.array_types import Floats, Integers, Keys, Refs, np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items:
    """Items to be inserted.

    Attributes:
        keys: [n].
        priorities: [n].
        refs: [n, 3], where the data lies.
        sizes: [n], bytes of the data of each item, as if it shared nothing with others.
        episodes: [n], of which episode each item is; its own key for one that is an episode by itself.
        policy_versions: [n], of the weights that acted; -1 where that was not said.
    """

    keys: Keys
    priorities: Floats
    refs: Refs
    sizes: Integers
    episodes: Keys
    policy_versions: Integers

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, start: int, end: int) -> Items:
        """Some of them."""
        return Items(**{name: column[start:end] for name, column in vars(self).items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledItems:
    """Sampled items, in the order in which they were drawn.

    Attributes:
        keys: [n].
        probabilities: [n], of each draw when it was made.
        table_sizes: [n], items in the table at that time.
        priorities: [n].
        times_sampled: [n], this draw included.
        inserted_ns: [n], nanoseconds since the epoch.
        policy_versions: [n], as they were inserted.
        refs: [n, 3], where the data lies. They are held for whoever takes them, who releases them.
    """

    keys: Keys
    probabilities: Floats
    table_sizes: Integers
    priorities: Floats
    times_sampled: Integers
    inserted_ns: Integers
    policy_versions: Integers
    refs: Refs

    def __len__(self) -> int:
        return len(self.keys)

    @staticmethod
    def joined(parts: Sequence[SampledItems]) -> SampledItems:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        return SampledItems(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


class References(Protocol):
    """Keeps data for as long as somebody holds it."""

    def acquire(self, refs: Refs) -> None:
        """Hold the data of items once more."""

    def release(self, refs: Refs) -> None:
        """Let go of it once."""


class NoReferences:
    """For tables that stand alone, whose items have no data."""

    def acquire(self, refs: Refs) -> None:
        """Nothing to hold."""

    def release(self, refs: Refs) -> None:
        """Nothing to let go."""
