"""The replay buffer: the latest transitions, and the brake that keeps acting and learning in proportion."""

from __future__ import annotations

from kourou import replay

TABLE = "transitions"
CAPACITY = 50_000
BATCH_SIZE = 128
BATCHES_PER_STEP = 0.5
"""Gradient steps for each transition, in the long run."""
WARM_UP = 1_000
"""Transitions to wait for before the first batch; and how far either side may get ahead of the other."""


def make_limiter() -> replay.rate_limiters.RateLimiter:
    """Inserts wait while actors are ahead of the learner, samples while the learner is ahead of the actors.

    Thus the outcome depends little on how fast either is on the machine at hand.
    """
    samples_per_insert = BATCHES_PER_STEP * BATCH_SIZE
    return replay.rate_limiters.SampleToInsertRatio(samples_per_insert, WARM_UP, WARM_UP * samples_per_insert)


def make_tables(seed: int) -> list[replay.Table]:
    """One table, sampled uniformly."""
    return [replay.Table(TABLE, replay.selectors.Uniform(seed), replay.selectors.Fifo(), CAPACITY, make_limiter())]
