"""What a table says of itself."""

from __future__ import annotations

import dataclasses

from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.selectors import Selector
from kourou.replay.signature import Signature

__all__ = ["TableInfo"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableInfo:
    """A table as it is now.

    Attributes:
        name, sampler, remover, max_size, max_bytes, max_times_sampled, rate_limiter, signature: as it was made.
        current_size: items.
        current_bytes: of the items' data, as if they shared nothing.
        inserts, samples, deletes: counted since it was made or reset.
        num_unique_samples: items that were sampled at least once.
        waiting_inserts, waiting_samples: requests that the limiter holds back.
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
    waiting_inserts: int
    waiting_samples: int
    blocked_on: str
    hooks_dropped: int
