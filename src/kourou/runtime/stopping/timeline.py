"""How much time each step of a stop gives nodes. What the steps do is in ``steps``."""

from __future__ import annotations

import dataclasses
import signal

from kourou import errors
from kourou.shown import shown

_INTERRUPTED = "interrupted by "


def interrupted_by(code: int) -> str:
    """The reason of a stop that a signal brought about; ``code`` is the exit code that goes with it, 128 more."""
    number = code - 128
    return _INTERRUPTED + ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


def is_interrupt(reason: str | None) -> bool:
    """Whether it is such a reason."""
    return reason is not None and reason.startswith(_INTERRUPTED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTimeline:
    """How long a stopping program waits before it insists; seconds, each counted from the step before.

    The defaults add up to the ten seconds that Launchpad gave. 0 skips a step's waiting.
    """

    ask_s: float = 5.0
    """From the broadcast of stop until nodes that still run get StopRequested raised in their main thread."""
    interrupt_s: float = 3.0
    """From that exception until SIGTERM goes to the node's session."""
    terminate_s: float = 2.0
    """From SIGTERM until SIGKILL goes to the node's session."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise errors.GraphError(f"StopTimeline.{field.name} is a number of seconds >= 0, got {shown(value)}")

    @property
    def total_s(self) -> float:
        """Seconds from the broadcast of stop until SIGKILL."""
        return self.ask_s + self.interrupt_s + self.terminate_s
