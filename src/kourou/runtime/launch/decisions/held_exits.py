"""Exits that are not judged yet, since what they were may show in a moment."""

from __future__ import annotations

import collections
from collections.abc import Container, Mapping

from kourou.runtime.launch.decisions.node_tree import NodeTree
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.records import ProcessExit

_CAUSE_ENDS_S = 2.0  # of the process that raised first: its exit handlers may take a moment
_STOP_FOLLOWS_S = 0.5  # a SIGTERM that the launcher got as well: until it asks for the stop


class HeldExits:
    """Whose exits wait to be judged, and for how long."""

    def __init__(self, tree: NodeTree, nodes: Mapping[str, TrackedNode], alive: Container[str]) -> None:
        self._tree = tree
        self._nodes = nodes
        self._alive = alive
        self._exits: dict[str | None, dict[str, ProcessExit]] = {}  # by unit
        # Of each unit, who said that it raised something, in that order; those that are gone are dropped on the way.
        self._raised: dict[str, collections.deque[tuple[str, int]]] = collections.defaultdict(collections.deque)

    def note_raised(self, name: str) -> None:
        """The node's present attempt said that it raised something."""
        unit = self._tree.unit_of(name)
        if unit is not None:
            self._raised[unit].append((name, self._nodes[name].attempt))

    def wait_s(self, name: str, exit: ProcessExit) -> float | None:  # noqa: A002 - it is an exit
        """How long this exit of a program that does not stop is to be held; None: not at all."""
        if exit.signal and exit.terminated:
            # Slurm, systemd and Docker send it to all processes at once, and the launcher's may not have come yet.
            return _STOP_FOLLOWS_S
        return _CAUSE_ENDS_S if self._follows_another(name) else None

    def hold(self, name: str, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """Keep a node's exit."""
        self._exits.setdefault(self._tree.unit_of(name), {})[name] = exit

    def __contains__(self, name: str) -> bool:
        return name in self._exits.get(self._tree.unit_of(name), {})

    def take(self, name: str) -> list[tuple[str, ProcessExit]]:
        """A node's exit, which is held no longer, with its name."""
        held = self._exits[self._tree.unit_of(name)]
        return [(name, held.pop(name))]

    def take_unit(self, unit: str) -> list[tuple[str, ProcessExit]]:
        """Those of a unit's parts."""
        return list(self._exits.pop(unit, {}).items())

    def take_all(self) -> list[tuple[str, ProcessExit]]:
        """All of them."""
        taken = [each for held in self._exits.values() for each in held.items()]
        self._exits.clear()
        return taken

    def _follows_another(self, name: str) -> bool:
        """Whether another part of its unit raised first and is about to end: ranks fail when one of them is gone."""
        unit = self._tree.unit_of(name)
        outcome = self._nodes[name].outcome
        if unit is None or outcome is None or outcome.kind != "raised":
            return False
        raised = self._raised[unit]
        while raised and (raised[0][0] not in self._alive or self._nodes[raised[0][0]].attempt != raised[0][1]):
            raised.popleft()
        return bool(raised) and raised[0][0] != name
