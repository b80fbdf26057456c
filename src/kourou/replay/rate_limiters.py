"""When a table lets inserters and samplers go on: the ratio between the two, kept within bounds.

The arithmetic is Reverb's. With the counts of a table since it was made or reset::

    diff          = inserts * samples_per_insert - samples
    may sample n  : inserts - deletes >= min_size_to_sample  and  diff - n >= min_diff
    may insert n  : inserts - deletes + n <= min_size_to_sample
                    or  diff + n * samples_per_insert <= max_diff

with one addition. An item that is deleted by key from a table that limits how often an item is sampled gives back
the samples that it stood for: ``forfeited`` is added to ``samples``. Without that, ten deleted items of a queue of
ten would take its capacity away for ever.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
from collections.abc import Callable

__all__ = ["LimiterState", "MinSize", "Queue", "RateLimiter", "SampleToInsertRatio", "Stack"]

_log = logging.getLogger("kourou.replay")
_UNBOUNDED = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class RateLimiter:
    """The four numbers of a limiter. One object may serve any number of tables: the counts are each table's own.

    Args:
        samples_per_insert: how many samples one insert allows; above 0.
        min_size_to_sample: items a table has before it is sampled; at least 1. Inserts up to here never wait.
        min_diff, max_diff: bounds of ``inserts * samples_per_insert - samples``.

    Raises:
        ValueError: a number out of its range, or bounds so close that both sides would wait for ever.
    """

    samples_per_insert: float
    min_size_to_sample: int
    min_diff: float
    max_diff: float

    def __post_init__(self) -> None:
        if not (self.samples_per_insert > 0 and math.isfinite(self.samples_per_insert)):
            raise ValueError(f"samples_per_insert is above 0, not {self.samples_per_insert}")
        if self.min_size_to_sample < 1:
            raise ValueError(f"min_size_to_sample is at least 1, not {self.min_size_to_sample}")
        if math.isnan(self.min_diff) or math.isnan(self.max_diff):
            raise ValueError("min_diff and max_diff are numbers, not NaN")
        if self.max_diff - self.min_diff < max(1.0, self.samples_per_insert):
            raise ValueError(
                f"between min_diff={self.min_diff} and max_diff={self.max_diff} neither an insert (+"
                f"{self.samples_per_insert}) nor a sample (-1) may fit, so both sides would wait for ever"
            )


class MinSize(RateLimiter):
    """Sampling waits until the table has ``min_size_to_sample`` items; nothing else ever waits."""

    def __init__(self, min_size_to_sample: int) -> None:
        super().__init__(1.0, min_size_to_sample, -_UNBOUNDED, _UNBOUNDED)


class SampleToInsertRatio(RateLimiter):
    """Keep the samples per insert near a ratio, once there are ``min_size_to_sample`` items.

    Args:
        samples_per_insert: the ratio.
        min_size_to_sample: items before the first sample.
        error_buffer: how far ``diff`` may move from ``samples_per_insert * min_size_to_sample`` to either side; or
            the bounds themselves as (min_diff, max_diff).

    Raises:
        ValueError: a number out of its range, or a buffer smaller than ``max(1, samples_per_insert)`` to each side.
    """

    def __init__(
        self, samples_per_insert: float, min_size_to_sample: int, error_buffer: float | tuple[float, float]
    ) -> None:
        if not samples_per_insert > 0:
            raise ValueError(f"samples_per_insert is above 0, not {samples_per_insert}")
        offset = samples_per_insert * min_size_to_sample
        if isinstance(error_buffer, tuple):
            min_diff, max_diff = error_buffer
        else:
            min_diff, max_diff = offset - error_buffer, offset + error_buffer
        if not max_diff - min_diff >= 2 * max(1.0, samples_per_insert):
            raise ValueError(
                f"the error buffer {error_buffer} is too small: between its bounds there have to be at least "
                f"2 * max(1, samples_per_insert) = {2 * max(1.0, samples_per_insert)}"
            )
        if min_diff > offset:
            raise ValueError(f"min_diff={min_diff} is above samples_per_insert * min_size_to_sample = {offset}")
        if max_diff < offset:
            _log.warning("max_diff=%s is below samples_per_insert * min_size_to_sample = %s", max_diff, offset)
        super().__init__(samples_per_insert, min_size_to_sample, min_diff, max_diff)


class Queue(RateLimiter):
    """Inserts wait while ``size`` items were not sampled, samples while there are none."""

    def __init__(self, size: int) -> None:
        super().__init__(1.0, 1, 0.0, float(size))


class Stack(Queue):
    """As :class:`Queue`: the order is the selector's business."""


class LimiterState:
    """A limiter with the counts of one table. Whoever uses it holds the table's lock."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.reset()

    def reset(self) -> None:
        """Count from 0."""
        self.inserts = self.samples = self.deletes = 0
        self.forfeited = 0.0

    @property
    def size(self) -> int:
        """Items in the table, as the arithmetic sees it."""
        return self.inserts - self.deletes

    @property
    def diff(self) -> float:
        """``inserts * samples_per_insert - samples``, forfeited samples included."""
        return self._diff_after(0)

    def can_sample(self, count: int = 1) -> bool:
        """Whether ``count`` samples may be taken now, if none of them deletes an item."""
        limiter = self.limiter
        return self.size >= limiter.min_size_to_sample and self.diff - count >= limiter.min_diff

    def can_insert(self, count: int = 1) -> bool:
        """Whether ``count`` items may be inserted now, if none of them pushes another out."""
        return self.size + count <= self.limiter.min_size_to_sample or self._has_budget(count)

    def samplable(self, count: int) -> int:
        """How many of ``count`` samples, taken one by one without a deletion, may be taken."""
        limiter = self.limiter
        if self.size < limiter.min_size_to_sample:
            return 0
        if self.diff - count >= limiter.min_diff:
            return count
        allowed = max(0, math.floor(self.diff - limiter.min_diff))
        return _largest(min(allowed, count), count, self.can_sample)

    def insertable(self, count: int, max_size: int) -> int:
        """How many of ``count`` items, inserted one by one into a table of ``max_size``, may be inserted."""
        limiter = self.limiter
        if self._has_budget(count):
            return count
        if max_size < limiter.min_size_to_sample:
            return count  # it will never have the size up to which inserts are free
        free = max(0, limiter.min_size_to_sample - self.size)
        paid = max(0, math.floor((limiter.max_diff - self.diff) / limiter.samples_per_insert))
        paid = _largest(min(paid, count), count, self._has_budget)
        return min(count, max(free, paid))

    def _diff_after(self, count: int) -> float:
        """``diff`` after ``count`` inserts, by the documented expression: another one would round otherwise."""
        return (self.inserts + count) * self.limiter.samples_per_insert - self.samples - self.forfeited

    def _has_budget(self, count: int) -> bool:
        return self._diff_after(count) <= self.limiter.max_diff

    def forfeit(self, times_sampled: int) -> None:
        """An item that had been sampled so often was deleted by key from a table that limits how often."""
        self.forfeited += max(0.0, self.limiter.samples_per_insert - times_sampled)

    def rebase(self, *, inserts: int, samples: int, forfeited: float, size: int) -> None:
        """Go on from counts of an earlier run, with ``size`` items.

        Where those counts would leave both sides waiting under this limiter (it may be another one than then), or one
        of them for no good reason, ``forfeited`` is chosen so that an insert and a sample may pass, if the bounds are
        wide enough for both.
        """
        limiter = self.limiter
        self.inserts, self.samples, self.deletes, self.forfeited = inserts, samples, inserts - size, forfeited
        if size >= limiter.min_size_to_sample:
            low, high = limiter.min_diff + 1, limiter.max_diff - limiter.samples_per_insert
            wanted = min(max(self.diff, low), high) if low <= high else min(max(self.diff, limiter.min_diff), low)
            self.forfeited += self.diff - wanted

    def describe(self) -> str:
        """The numbers, for logs: why somebody waits."""
        limiter = self.limiter
        size = f"size {self.size} of at least {limiter.min_size_to_sample}"
        low = [f"at least {limiter.min_diff:g}"] if limiter.min_diff > -_UNBOUNDED else []
        high = [f"at most {limiter.max_diff:g}"] if limiter.max_diff < _UNBOUNDED else []
        if not low + high:
            return size
        return (
            f"{size}; inserts {self.inserts} × {limiter.samples_per_insert:g} - samples {self.samples} - "
            f"forfeited {self.forfeited:g} = {self.diff:g}, to be {' and '.join(low + high)}"
        )


def _largest(guess: int, most: int, holds: Callable[[int], bool]) -> int:
    """The largest count up to ``most`` that ``holds``; the guess, made by a division, may be off by one."""
    while guess > 0 and not holds(guess):
        guess -= 1
    while guess < most and holds(guess + 1):
        guess += 1
    return guess
