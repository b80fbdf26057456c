"""What may be asked of the nodes of a program that runs: that there are others."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
    """One of: so many nodes of a group; a node for a group; the end of some nodes."""

    label: str = ""
    count: int = -1
    """How many; -1: it is not that."""
    node: Any = None
    """What is to be added."""
    names: tuple[str, ...] = ()
    """Who is to be removed."""
