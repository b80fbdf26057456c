"""Saying that nobody is left but nodes that only serve.

They end with the program, and the program with them: where nobody calls ``lp.stop()``, it goes on for ever, and nobody
would know what for. A launcher that calls its nodes itself may want just that, so it is said, once, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.instructions import Warn
from kourou.runtime.waiting.countdown import Countdown
from kourou.shown import listed
from kourou.waits import PATIENCE_S


class OnlyServers:
    """Whether a node with work of its own is left; to be looked at when it is ``due``."""

    def __init__(self, nodes: Mapping[str, TrackedNode], *, run_id: str) -> None:
        self._nodes = nodes
        self._run_id = run_id
        self._workers = Countdown((), self._is_no_worker)
        self._is_to_be_told = False
        self.due = math.inf
        """When to look; infinite while nodes work, and where none ever did."""

    def begin(self, names: Iterable[str]) -> None:
        """There are these nodes, too."""
        self._workers.add(names)
        if not self._workers.done():
            self._is_to_be_told = True
            self.due = math.inf

    def note_end(self, now: float) -> None:
        """A node has ended, by itself or by a failure."""
        if self._is_to_be_told and self._workers.done():
            self._is_to_be_told = False
            self.due = now + PATIENCE_S

    def end(self) -> None:
        """The program stops: it does not matter any more."""
        self.due = math.inf

    def look(self) -> list[Warn]:
        """Name those that are left, but not the colocations that they are in."""
        self.due = math.inf
        parents = {node.plan.parent for node in self._nodes.values()}
        left = [node.name for node in self._nodes.values() if not (node.gone or node.name in parents)]
        if not left:
            return []
        go_on = "only serves, and goes on" if len(left) == 1 else "only serve, and go on"
        text = f"every node with work of its own has ended; {listed(left)} {go_on} until somebody calls lp.stop()"
        return [Warn(text=f"kourou: {text}, or: kourou stop {self._run_id}")]

    def _is_no_worker(self, name: str) -> bool:
        return self._nodes[name].serves_only or self._nodes[name].gone
