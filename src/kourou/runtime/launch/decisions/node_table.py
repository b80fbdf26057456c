"""All nodes of a run: what is known of each, who lives, who belongs to whom, and what is to be done about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kourou.runtime.launch.decisions.node_tree import NodeTree
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.instructions import Change, Instruction, Signal
from kourou.runtime.model.records import NO_SIGNAL, ExitRecord, NodeState
from kourou.runtime.plan.plan import NodePlan


class NodeTable:
    """Of one run.

    Args:
        here: the host of nodes that no other is given.
    """

    def __init__(self, here: str) -> None:
        self._here = here
        self.tree = NodeTree(())
        self.nodes: dict[str, TrackedNode] = {}
        self.alive: dict[str, TrackedNode] = {}
        """Those that have begun and not ended, in that order."""
        self.instructions: list[Instruction] = []
        """What is to be done, in that order."""

    def add(self, plans: tuple[NodePlan, ...]) -> None:
        """There are these nodes, too."""
        self.tree.add(plans)
        for plan in plans:
            host = plan.site.host if plan.site else self._here
            self.nodes[plan.name] = TrackedNode(plan=plan, host=host, serves_only=plan.serves_only)

    def do(self, instruction: Instruction) -> None:
        """This is to be done, after what was said before."""
        self.instructions.append(instruction)

    def change(self, node: TrackedNode, **changes: object) -> None:
        """Change a node, and make it known."""
        for field, value in changes.items():
            setattr(node, field, value)
        self.do(Change(name=node.name, changes=changes))

    def never_start(self, node: TrackedNode, cause: str, **changes: object) -> None:
        """It has ended before it began."""
        end = ExitRecord(node=node.name, attempt=0, state=NodeState.FINISHED, cause=cause)
        self.change(node, **changes, state=end.state, exit=end)

    def let_stop(self, node: TrackedNode, **changes: object) -> None:
        """It is told to end, and interrupts itself if it is still starting; one that is not there yet never will be."""
        starting = node.state is NodeState.STARTING
        self.change(node, **changes, state=NodeState.STOPPING)
        if starting and self.tree.launched(node.name):
            self.do(Signal(name=node.name, number=NO_SIGNAL))

    def below(self, name: str) -> Iterator[TrackedNode]:
        """Children, their children, and so on."""
        return map(self.nodes.__getitem__, self.tree.below(name))

    def with_threads(self, node: TrackedNode) -> Iterator[TrackedNode]:
        """The node, and those that live in its process."""
        yield node
        for name in self.tree.threads_of(node.name):
            if name in self.alive:
                yield self.nodes[name]

    def has_failed_thread(self, ended: TrackedNode) -> bool:
        """Whether this thread, or another one of its process before it, has failed, so that the process will."""
        process = next(self.nodes[name] for name in self.tree.above(ended.name) if self.tree.launched(name))
        process.thread_failed |= ended.state is NodeState.FAILED
        return process.thread_failed

    def is_launched(self, name: str) -> bool:
        """It lives, as a process or a thread that the launcher has started."""
        return name in self.alive and self.tree.launched(name)

    def launched(self, names: Iterable[str]) -> list[TrackedNode]:
        """Those among them that are."""
        return [self.nodes[name] for name in names if self.is_launched(name)]

    def note_killed(self, name: str, why: str) -> None:
        """It is about to be killed, and all that lives in its process."""
        for node in self.with_threads(self.nodes[name]):
            node.killed = why
