"""What every launcher does, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kourou.runtime.model.process import Blobs
from kourou.runtime.plan.plan import NodePlan
from kourou.runtime.process.supervisor import ProcessEvents


class LauncherEvents(ProcessEvents, Protocol):
    """Told by a launcher of nodes' processes or threads, from threads of its own; each call must return quickly."""

    def on_placed(self, name: str, attempt: int, host: str) -> None:
        """The node is about to start, on this host; told where there are several."""


class Launcher(Protocol):
    """Starts nodes and ends them; :class:`LauncherEvents` says what became of that."""

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        """There are these nodes as well, with these parts of payloads; from any thread."""

    def forget(self, names: set[str]) -> None:
        """These nodes are gone for good; from any thread, and again and again."""

    def start(self, name: str, attempt: int) -> None:
        """Start a node of the plan; returns at once."""

    def signal(self, name: str, number: int) -> None:
        """Signal a node and all that it started, or it alone (``records.FOR_IT_ALONE``).

        INTERRUPT raises StopRequested in its main thread. One that was not begun yet never will be, and ends.
        """

    def close(self) -> None:
        """Kill what is left and give everything back. Idempotent."""
