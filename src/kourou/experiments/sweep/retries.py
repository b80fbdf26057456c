"""Whether a run whose attempt failed is tried again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kourou import errors
from kourou.experiments.sweep.outcomes import CAUSES
from kourou.runtime.graph.failure_policies import doubled

_FIRST = ("exit", "signal", "memory", "timeout", "node")  # what a plain number of retries is for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a failed run is started again, and after what time.

    Example: ``Retry(times={"signal": 3, "exit": 1})``.
    """

    times: int | Mapping[str, int] = 0
    """Retries by cause; a number: so many for each cause but "start", which another attempt does not mend."""
    backoff_s: float = 1.0
    """Seconds before the first retry; doubled for each further one."""
    longest_backoff_s: float = 60.0
    """Seconds that no retry waits longer than."""

    def __post_init__(self) -> None:
        for cause, times in self.by_cause.items():
            if cause not in CAUSES:
                raise errors.PlanError(f"retries are for {', '.join(CAUSES)}, got {cause!r}")
            if not isinstance(times, int) or isinstance(times, bool) or times < 0:
                raise errors.PlanError(f"the number of retries for {cause!r} is a whole number >= 0, got {times!r}")

    @property
    def by_cause(self) -> Mapping[str, int]:
        """Retries by cause."""
        if isinstance(self.times, Mapping):
            return self.times
        return dict.fromkeys(_FIRST, self.times)

    def delay_s(self, cause: str, done: Mapping[str, int]) -> float | None:
        """Seconds until the next attempt after a failure; None: there is none.

        Args:
            cause: why the attempt failed.
            done: the retries that there were already, by cause.
        """
        if done.get(cause, 0) >= self.by_cause.get(cause, 0):
            return None
        return doubled(self.backoff_s, sum(done.values()), self.longest_backoff_s)
