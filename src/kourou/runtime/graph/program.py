"""The program: a graph of nodes in labelled groups. Only data; nothing here starts anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kourou import errors
from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.broadcast import GroupHandle
from kourou.runtime.graph.checkpoints import Checkpoints
from kourou.runtime.graph.failure_policies import OnFailure, check_policy
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.node import Node
from kourou.runtime.graph.resources import PythonProcess
from kourou.runtime.model.names import child_name
from kourou.runtime.waiting.node_target import NodeTarget
from kourou.shown import meant, shown

if TYPE_CHECKING:
    from kourou.runtime.graph.topology import Topology

H_co = TypeVar("H_co", bound=Handle[Any], covariant=True)


class _NodeWith(Protocol[H_co]):
    """A node, to type checkers: what its ``create_handle`` returns is what ``add_node`` returns."""

    def create_handle(self) -> H_co:
        """As :meth:`Node.create_handle`."""
        ...

    def run(self, context: NodeContext) -> None:
        """As :meth:`Node.run`."""


class Program:
    """A program graph.

    Args:
        name: names the program in run folders and messages.

    Example::

        program = lp.Program("train")
        with program.group("actor"):
            for _ in range(4):
                program.add_node(lp.CourierNode(Actor, learner))
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name or not _is_utf8(name):
            raise errors.GraphError(f"a program's name is a non-empty string that UTF-8 has, got {name!r}")
        self._name = name
        self._groups: dict[str, list[Node]] = {}
        self._current_group: str | None = None
        self._policies: dict[str, OnFailure] = {}
        self._resources: dict[str, PythonProcess] = {}
        self._checkpoints: dict[str, Checkpoints] = {}

    @property
    def name(self) -> str:
        """The program's name."""
        return self._name

    @property
    def groups(self) -> dict[str, list[Node]]:
        """Label → nodes, in the order in which they were added."""
        return self._groups

    def on_failure(self, label: str) -> OnFailure:
        """What the failure of a node of this group leads to."""
        return self._policies.get(label, "fail")

    def checkpoints(self, label: str) -> Checkpoints | None:
        """When the nodes of this group write checkpoints; None where it says nothing."""
        return self._checkpoints.get(label)

    def resources(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the processes of each label get: what groups say, and instead of that what a launch was given."""
        return {**{label: each for label, each in self._resources.items() if label in self._groups}, **(given or {})}

    @property
    def current_group(self) -> str:
        """The label of the group being filled.

        Raises:
            GraphError: outside of ``with program.group(...)``.
        """
        if self._current_group is None:
            raise errors.GraphError("Current group is only available in group context.")
        return self._current_group

    def add_node(self, node: _NodeWith[H_co], label: str | None = None) -> H_co:
        """Add a node and return a handle of it.

        Args:
            node: the node; it belongs to one program, once.
            label: its group. Inside ``with program.group(...)`` it may be left out.

        Raises:
            GraphError: no label, another label than the open group's, or a node that was added before.
        """
        if not isinstance(node, Node):
            raise errors.GraphError(f"add_node takes a node such as lp.CourierNode(...), got {shown(node)}")
        if self._current_group is not None:
            if label and label != self._current_group:
                raise errors.GraphError(
                    f"The given label does not match the current group: {label} vs {self._current_group}."
                )
            label = self._current_group
        check_label(label)
        assert label is not None  # noqa: S101 - narrowed by check_label
        check_new(node)
        nodes = self._groups.setdefault(label, [])
        give_name(node, f"{label}/{len(nodes)}")
        give_checkpoints(node, self._checkpoints.get(label))
        nodes.append(node)
        return node.create_handle()  # pyright: ignore[reportReturnType]  # to it, isinstance has made the node any Node

    @contextlib.contextmanager
    def group(
        self,
        label: str,
        *,
        on_failure: OnFailure | None = None,
        resources: PythonProcess | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Iterator[None]:
        """Nodes added in the body belong to the group ``label``; a group may be opened again later.

        Args:
            label: the group's name.
            on_failure: what the failure of one of its nodes leads to: ``"fail"`` ends the program (as for every group
                that says nothing), ``lp.Restart(...)`` starts the node again, ``"ignore"`` lets the others run on.
            resources: what each of its processes gets: ``lp.Resources(gpus=1)``. What ``local_resources`` of
                ``lp.launch`` has for the label is in its place.
            checkpoints: when its nodes write checkpoints: ``lp.Checkpoints(every_s=600)``. Where a group says nothing,
                objects with ``save(folder)`` and ``load(folder)`` do so on the stop.

        Raises:
            GraphError: an empty label, a group inside of a group, no such policy, resources, or checkpoints.
        """
        check_label(label)
        if on_failure is not None:
            self._policies[label] = check_policy(on_failure)
        if resources is not None:
            if not isinstance(resources, PythonProcess):
                raise errors.GraphError(f"resources are lp.Resources or lp.PythonProcess, got {shown(resources)}")
            self._resources[label] = resources
        if checkpoints is not None:
            if not isinstance(checkpoints, Checkpoints):
                raise errors.GraphError(f"checkpoints are lp.Checkpoints, got {shown(checkpoints)}")
            self._checkpoints[label] = checkpoints
            for node in self._groups.get(label, ()):
                give_checkpoints(node, checkpoints)
        if self._current_group is not None:
            raise errors.GraphError("group() cannot be nested.")
        self._current_group = label
        try:
            yield
        finally:
            self._current_group = None

    def handle_to(self, label: str, index: int = 0) -> Handle[Any]:
        """A handle of a node that is added later: the plain way to nodes that know each other.

        Example::

            first = program.add_node(lp.CourierNode(First, program.handle_to("second")), label="first")
            program.add_node(lp.CourierNode(Second, first), label="second")

        Compile reports a handle whose node never came.
        """
        check_label(label)
        return ForwardHandle(self, label, index)

    def handle_to_group(self, label: str) -> GroupHandle:
        """A handle of a group: a node that has it in its arguments calls all nodes of the group as one.

        In its place the node finds what :func:`kourou.broadcast` returns, which follows the group: nodes that are added
        while the program runs are called, too, and those that are removed no more. Elsewhere,
        ``lp.broadcast(program.handle_to_group("actor"))``.

        Args:
            label: the group, whose nodes may be added later.
        """
        return GroupHandle(label, self.handle_to(label))

    def get_all_nodes(self) -> list[Node]:
        """The nodes that were added, group by group."""
        return [node for nodes in self._groups.values() for node in nodes]

    def iterate_members(self) -> Iterator[Node]:
        """All that have a name: the nodes that were added, each followed by those that it holds (colocations do)."""
        for node in self.get_all_nodes():
            yield from node.iterate_family()

    def to_mermaid(self) -> str:
        """A flowchart in Mermaid's text: a box for each group, an arrow from who calls to whom it calls."""
        return self._topology().to_mermaid()

    def _repr_html_(self) -> str:
        """What a notebook shows: the same as a picture."""
        return self._topology().to_svg()

    def _topology(self) -> Topology:
        from kourou.runtime.graph.topology import Topology, Vertex  # noqa: PLC0415 - for those who look at it

        added = {id(node) for node in self.get_all_nodes()}
        return Topology.of(
            Vertex(
                name=node.name or "",
                kind=node.describe(),
                inputs=tuple(str(handle.node_name) for handle in node.input_handles),
                is_child=id(node) not in added,
            )
            for node in self.iterate_members()
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{label}×{len(nodes)}" for label, nodes in self._groups.items())
        return f"<Program {self._name!r}: {sizes or 'empty'}>"


class ForwardHandle(Handle[Any]):
    """A handle of a node by its place in the program; it becomes the node's own handle when it is used."""

    def __init__(self, program: Program, label: str, index: int) -> None:
        self._program = program
        self._label = label
        self._index = index
        self._address = None

    @property
    def _node(self) -> Node | None:  # type: ignore[override]
        nodes = self._program.groups.get(self._label, [])
        return nodes[self._index] if -len(nodes) <= self._index < len(nodes) else None

    @property
    def node_name(self) -> str:
        """``label/index``, whether or not the node exists yet."""
        return f"{self._label}/{self._index}"

    @property
    def serves(self) -> bool:  # type: ignore[override]
        """Whether the node, once added, answers calls."""
        node = self._node
        return node is None or node.create_handle().serves

    def dereference(self) -> Any:
        return self._own_handle().dereference()

    def make_client(self, target: NodeTarget) -> Any:
        """As the node's own handle does."""
        return self._own_handle().make_client(target)

    def __reduce__(self) -> Any:
        return self._own_handle().__reduce__()

    def _own_handle(self) -> Handle[Any]:
        node = self._node
        if node is None:
            groups = self._program.groups
            there = f"there are {len(groups[self._label])} of them" if self._label in groups else ""
            there = there or meant(self._label, groups, "its labels are")
            raise errors.HandleNotResolved(
                f"the program has no node {self.node_name}: "
                f"handle_to({self._label!r}, {self._index}) was never filled; {there}"
            )
        return node.create_handle()


def check_new(node: Node) -> None:
    """See that a node is in no program yet.

    Raises:
        GraphError: it is.
    """
    seen: set[int] = set()
    for member in node.iterate_family():
        if member.name is not None:
            raise errors.GraphError(
                f"this node was added before, as {member.name}; every place in a program needs a node of its own"
            )
        if id(member) in seen:
            raise errors.GraphError(
                f"{shown(member)} is in {shown(node)} twice; every place in a program needs a node of its own"
            )
        seen.add(id(member))


def give_name(node: Node, name: str | None) -> None:
    """Name a node, and those that it holds; None: they are in no program after all."""
    node._name = name  # noqa: SLF001 - the program names its nodes
    for place, child in enumerate(node.children()):
        give_name(child, name and child_name(name, place))


def give_checkpoints(node: Node, checkpoints: Checkpoints | None) -> None:
    """Tell a node, and those that it holds, when they write checkpoints."""
    for member in node.iterate_family():
        member._checkpoint_policy = checkpoints  # noqa: SLF001 - the program tells its nodes what their groups say


def check_label(label: str | None) -> None:
    """See that a label is one.

    Raises:
        GraphError: it is not.
    """
    if not label:
        raise errors.GraphError(
            "Label should not be empty. Write add_node(node, label=...), or add_node(node) within program.group(label)"
        )
    if not isinstance(label, str) or "/" in label or "\0" in label or not _is_utf8(label):
        raise errors.GraphError(
            f"a label is text that UTF-8 has, without '/' and NUL (the name of a node is label/index), got {label!r}"
        )


def _is_utf8(text: str) -> bool:
    """False with lone surrogates, as names of files have that are not UTF-8: no file and no message takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
