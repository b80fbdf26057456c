"""What befalls a simulated run, and how often."""

from __future__ import annotations

import dataclasses
from typing import Any

from kourou import errors

_WORDS = {
    "node": "node_per_hour",
    "host": "host_per_hour",
    "cut": "cut_per_hour",
    "slow": "slow_starts",
    "loss": "losses",
    "deaf": "deaf",
    "delay": "delay_s",
    "resize": "resizes_per_hour",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares and seconds. By default nothing goes wrong."""

    node_per_hour: float = 0.0
    """Share of the nodes that fail in an hour: they raise, exit, or are killed."""
    host_per_hour: float = 0.0
    """Share of the hosts that die in an hour, with all that runs on them. They are back after ``host_away_s``."""
    host_away_s: float = 900.0
    cut_per_hour: float = 0.0
    """Share of the hosts that are cut off in an hour, for up to ``cut_s``."""
    cut_s: float = 60.0
    slow_starts: float = 0.0
    """Share of the starts that take up to ``slow_start_s``."""
    slow_start_s: float = 120.0
    losses: float = 0.0
    """Share of the calls of the coordinator of which the request or the answer is lost: they are made again."""
    deaf: float = 0.0
    """Share of the processes that do not end when they are asked to; half of them not by SIGTERM either."""
    delay_s: float = 0.001
    """Of a message, on average."""
    resizes_per_hour: float = 0.0
    """How often somebody adds a node like another one, or removes one."""

    @classmethod
    def parse(cls, text: str) -> Faults:
        """What ``kourou simulate --faults`` takes: ``node=1%,host=0.5%,cut=1%,slow=5%,loss=0.1%,deaf=1%,delay=0.02``.

        Raises:
            GraphError: it makes no sense.
        """
        fields: dict[str, Any] = {}
        for word in filter(None, text.split(",")):
            name, _, value = word.partition("=")
            try:
                number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
                fields[_WORDS[name.strip()]] = number
            except (KeyError, ValueError):
                known = ", ".join(f"{each}=…" for each in _WORDS)
                mistake = f"--faults: {word!r} is none of {known}, with a number or a percentage"
                raise errors.GraphError(mistake) from None
            if number < 0:
                raise errors.GraphError(f"--faults: {word!r} is below 0")
        return cls(**fields)
