"""What goes into a table and what comes out of it, many items at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from kourou.replay.arrays.array_types import Array, Floats, Integers, Keys, Refs, np


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


INFO_DTYPE = np.dtype(
    [
        ("key", "<u8"),
        ("probability", "<f8"),
        ("table_size", "<i8"),
        ("priority", "<f8"),
        ("times_sampled", "<i4"),
        ("inserted_ns", "<i8"),
        ("policy_version", "<i8"),
    ]
)
"""What is known of a sampled item, apart from its data: the probability of the draw and the size of the table when it
was made, how often the item was sampled by then, this time included, and when it was inserted, in nanoseconds since the
epoch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledItems:
    """Sampled items, in the order in which they were drawn.

    Attributes:
        info: INFO_DTYPE[n].
        refs: [n, 3], where the data lies. They are held for whoever takes them, who releases them.
    """

    info: Array
    refs: Refs

    def __len__(self) -> int:
        return len(self.refs)

    @staticmethod
    def joined(parts: Sequence[SampledItems]) -> SampledItems:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        info = np.concatenate([part.info for part in parts])
        return SampledItems(info=info, refs=np.concatenate([part.refs for part in parts]))


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
