"""What happens when a node fails: the program ends, the node starts again, or nothing."""

from __future__ import annotations

import dataclasses
import sys
from typing import Literal, TypeAlias

from kourou import errors
from kourou.shown import shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restart:
    """Start a failed node again, under the same name; its clients find it by themselves.

    Example: ``with program.group("actor", on_failure=lp.Restart(max_times=5)): ...``
    """

    max_times: int = 3
    """So many restarts within ``window_s``; one failure more ends the program."""
    window_s: float = 300.0
    """Seconds that a restart counts for. An actor that dies once a day may do so for ever, one that cannot start
    may not."""
    backoff_s: float = 0.1
    """Seconds before the first restart; doubled for each further one within the window, up to 30 s."""

    def __post_init__(self) -> None:
        if not isinstance(self.max_times, int) or isinstance(self.max_times, bool) or self.max_times < 1:
            raise errors.GraphError(f"Restart.max_times is a whole number >= 1, got {shown(self.max_times)}")
        for name in ("window_s", "backoff_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise errors.GraphError(f"Restart.{name} is a number of seconds >= 0, got {shown(value)}")

    def delay_s(self, restarts: int) -> float:
        """Seconds to wait after ``restarts`` restarts within the window."""
        return doubled(self.backoff_s, restarts, _LONGEST_BACKOFF_S)


_LONGEST_BACKOFF_S = 30.0


def doubled(seconds: float, times: int, most: float) -> float:
    """Seconds that are doubled so many times, however many that are, and do not become more than ``most``."""
    return min(most, seconds * 2.0 ** min(times, sys.float_info.max_exp - 1))


OnFailure: TypeAlias = Literal["fail", "ignore"] | Restart


def check_policy(policy: object) -> OnFailure:
    """The policy, if it is one.

    Raises:
        GraphError: it is not.
    """
    if isinstance(policy, Restart) or policy in ("fail", "ignore"):
        return policy
    raise errors.GraphError(f"on_failure is 'fail', 'ignore' or lp.Restart(...), got {shown(policy)}")
