"""What a table says of itself."""

from __future__ import annotations

import dataclasses

from kourou.replay.arrays.signature import Signature
from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.selectors import Selector
from kourou.shown import size


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableInfo:
    """A table as it is now.

    Attributes:
        name, sampler, remover, max_size, max_bytes, max_times_sampled, max_policy_lag, rate_limiter, signature: as it
            was made.
        current_size: items.
        current_bytes: of the items' data, as if they shared nothing.
        inserts, samples, deletes: counted since it was made or reset.
        num_unique_samples: items that were sampled at least once.
        num_episodes: of which there are items. An item is of the episode in which its writer made it; one that was
            inserted without a writer is an episode by itself.
        num_deleted_episodes: how often, since it was made or reset, the last item of an episode was removed. Items
            that come with one message, and go at once, do not count one by one.
        inserts_per_s, samples_per_s: over the last seconds.
        ages_s: seconds since the youngest item, one in the middle, and the oldest were inserted; of a large table,
            estimated from some of its items. None while it is empty.
        waiting_inserts, waiting_samples: requests that the limiter holds back.
        waits_s: how long the request has been waiting that waits longest; 0 while none does.
        blocked_on: the limiter's numbers while somebody waits; else empty.
        hooks_dropped: events that extensions were too slow for.
    """

    name: str
    sampler: Selector
    remover: Selector
    max_size: int
    max_bytes: int | None
    max_times_sampled: int
    rate_limiter: RateLimiter
    signature: Signature | None
    current_size: int
    current_bytes: int
    inserts: int
    samples: int
    deletes: int
    num_unique_samples: int
    num_episodes: int
    num_deleted_episodes: int
    inserts_per_s: float
    samples_per_s: float
    ages_s: tuple[float, float, float] | None
    waiting_inserts: int
    waiting_samples: int
    waits_s: float
    blocked_on: str
    hooks_dropped: int
    max_policy_lag: int | None = None

    def lines(self) -> list[str]:
        """The table in a line for people, and who waits in another one."""
        episodes = f" of {self.num_episodes:,} episodes" if 0 < self.num_episodes < self.current_size else ""
        items = f"{self.current_size:,} of {self.max_size:,} items{episodes}"
        parts = [f"{self.name}: {items}, {size(self.current_bytes)}"]
        parts.append(f"{self.inserts_per_s:,.0f} inserts/s, {self.samples_per_s:,.0f} samples/s")
        if self.ages_s is not None:
            parts.append(f"ages {self.ages_s[0]:.0f} to {self.ages_s[2]:.0f} s")
        waiting = [f"{self.waiting_inserts} inserts"] if self.waiting_inserts else []
        waiting += [f"{self.waiting_samples} samples"] if self.waiting_samples else []
        lines = ["; ".join(parts)]
        if waiting:
            lines.append(f"{self.name}: {' and '.join(waiting)} wait: {self.blocked_on}")
        return lines
