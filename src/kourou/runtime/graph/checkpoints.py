"""When the nodes of a group write checkpoints, and how many are kept."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kourou import errors
from kourou.shown import shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """When nodes write checkpoints.

    Example: ``with program.group("learner", checkpoints=lp.Checkpoints(every_s=600)): ...``

    An object with ``save(folder)`` and ``load(folder)`` has its state written by them: to an empty folder, which is a
    checkpoint once ``save`` has returned. Replay and weights nodes of the group write what they hold.
    """

    every_s: float | None = None
    """Seconds between two by the clock; None: none but on the stop."""
    keep: int = 2
    """How many are kept; the latest counts."""
    on_stop: bool = True
    """Whether one is written before the node ends, if it ends well or the program stops."""
    on_restart: Literal["load", "fresh"] = "load"
    """What a node does that is started again after a failure: it loads the latest one, or begins anew."""

    def __post_init__(self) -> None:
        every = self.every_s
        if every is not None and (isinstance(every, bool) or not isinstance(every, (int, float)) or not every > 0):
            raise errors.GraphError(f"Checkpoints.every_s is a number of seconds > 0, or None; got {shown(every)}")
        if type(self.keep) is not int or self.keep < 1:
            raise errors.GraphError(f"Checkpoints.keep is a whole number >= 1, got {shown(self.keep)}")
        if self.on_restart not in ("load", "fresh"):
            raise errors.GraphError(f"Checkpoints.on_restart is 'load' or 'fresh', got {shown(self.on_restart)}")
