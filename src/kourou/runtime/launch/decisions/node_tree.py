"""Who belongs to whom: the colocations of a plan and their children, as the director asks about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kourou.runtime.plan.plan import NodePlan, Placement


class NodeTree:
    """The tree of a plan's nodes."""

    def __init__(self, nodes: Iterable[NodePlan]) -> None:
        self._nodes: dict[str, NodePlan] = {}
        self._children: dict[str, list[str]] = {}
        self.add(nodes)

    def add(self, nodes: Iterable[NodePlan]) -> None:
        """There are these as well, with their parents."""
        new = {node.name: node for node in nodes}
        self._nodes |= new
        self._children |= {name: [] for name in new}
        for node in new.values():
            if node.parent is not None:
                self._children[node.parent].append(node.name)

    def roots(self) -> list[str]:
        """The nodes that the program was given."""
        return [name for name, node in self._nodes.items() if node.parent is None]

    def children(self, name: str) -> list[str]:
        """The children of a colocation, in order; none for other nodes."""
        return self._children[name]

    def below(self, name: str) -> Iterator[str]:
        """Children, their children, and so on."""
        for child in self._children[name]:
            yield child
            yield from self.below(child)

    def above(self, name: str) -> Iterator[str]:
        """The parent, its parent, and so on."""
        parent = self._nodes[name].parent
        if parent is not None:
            yield parent
            yield from self.above(parent)

    def units(self) -> list[str]:
        """The colocations that run nothing themselves, inner ones first."""
        return [name for name, node in reversed(self._nodes.items()) if node.placement is Placement.UNIT]

    def units_below(self, name: str) -> list[str]:
        """Those among them that this one is made of, inner ones first."""
        return [each for each in self.units_of(name) if each != name]

    def units_of(self, name: str) -> list[str]:
        """The same, with this one itself, if it is one."""
        family = [name, *self.below(name)]
        return [each for each in reversed(family) if self._nodes[each].placement is Placement.UNIT]

    def launched(self, name: str) -> bool:
        """The launcher starts a process or a thread for it."""
        return self._nodes[name].placement is Placement.OWN

    def inside(self, name: str) -> bool:
        """It is a thread of its colocation, and ends with it at the latest."""
        return self._nodes[name].placement is Placement.IN_PARENT

    def threads_of(self, name: str) -> list[str]:
        """The nodes that run inside of this one, those inside of them included."""
        return [child for child in self.below(name) if self.inside(child)] if self.launched(name) else []

    def unit_of(self, name: str) -> str | None:
        """The colocation whose end is made of this node's and its siblings'; None where there is none."""
        parent = self._nodes[name].parent
        return parent if parent is not None and self._nodes[parent].placement is Placement.UNIT else None
