"""Nodes that come and go while their program runs: checked here, by whoever asks; done by the director."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kourou import errors
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import PLAN_FILE, RunFolder
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.node import Node
from kourou.runtime.graph.program import check_label, check_new, give_checkpoints, give_name
from kourou.runtime.graph.replicas import another
from kourou.runtime.launch.decisions.state_machine import AddAsked
from kourou.runtime.launch.director import Director
from kourou.runtime.model.events import RemoveAsked
from kourou.runtime.model.names import index_of, label_of, root_of
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.model.resize import Resize
from kourou.runtime.plan.plan import LaunchPlan
from kourou.shown import meant, shown

if TYPE_CHECKING:
    from typing import Any

    from kourou.runtime.plan.addition import Addition, Recipe

_POLL_S = 0.1
_PATTERN = 2  # nodes say how a group's nodes differ


class Elastic:
    """The nodes of one run. Any thread may ask; one is heard after the other.

    Args:
        plan: what was launched.
        recipe: what it was compiled from; None: this launcher has the plan alone.
        folder, coordinator, director: of the run.
        adopt: makes new nodes known to the launcher, before the director starts them.
        let_go: told of nodes that are gone for good.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        recipe: Recipe | None,
        *,
        folder: RunFolder,
        coordinator: Coordinator,
        director: Director,
        adopt: Callable[[Sequence[Node], Addition], None],
        let_go: Callable[[set[str]], None],
    ) -> None:
        self.plan = plan
        """With all nodes that came later; those that went are in it, too."""
        self._recipe = recipe
        self._folder = folder
        self._coordinator = coordinator
        self._director = director
        self._adopt = adopt
        self._let_go = let_go
        self._lock = threading.Lock()
        self._members: dict[str, dict[int, Node]] = {}  # label → number → node
        for node in recipe.program.get_all_nodes() if recipe else ():
            name = str(node.name)
            self._members.setdefault(label_of(name), {})[index_of(name)] = node
        self._next = {label: max(members) + 1 for label, members in self._members.items()}  # a number is given once

    def close(self) -> None:
        """The run has ended, and lets go of its program, and of all that was given to its nodes.

        What is being added is refused first: it must not find things half given back.
        """
        with self._lock:
            self._recipe = None
            self._members = {}

    def carry_out(self, resize: Resize, origin: str) -> tuple[str, ...]:
        """What a node, or another shell, asks for; who comes or goes."""
        if resize.node is not None:
            return (str(self.add_node(resize.node, resize.label, origin).node_name),)
        if resize.names:
            self.remove(resize.names, origin)
            return resize.names
        return self.scale(resize.label, resize.count, origin)

    def handle_to(self, name: str) -> Handle[Any]:
        """Of a node that the program had, or that came since.

        Raises:
            NodeExited: the run has ended.
        """
        root = root_of(name)
        with self._lock:
            member = self._members.get(label_of(root), {}).get(index_of(root))
            for node in member.iterate_family() if member is not None else ():
                if node.name == name:
                    return node.create_handle()
        raise errors.NodeExited(f"run {self._folder.run_id} has ended, and {name} with it")

    def add_node(self, node: Node, label: str, origin: str) -> Handle[Any]:
        """See :meth:`kourou.Run.add_node`."""
        if not isinstance(node, Node):
            raise errors.GraphError(f"add_node takes a node such as lp.CourierNode(...), got {shown(node)}")
        check_label(label)
        check_new(node)
        with self._lock:
            self._check_goes_on()
            give_checkpoints(node, self._recipe.program.checkpoints(label) if self._recipe else None)
            self._add(label, [node], origin)
        return node.create_handle()

    def remove(self, names: Sequence[str], origin: str) -> None:
        """See :meth:`kourou.Run.remove`."""
        with self._lock:
            self._check_goes_on()
            for name in names:
                self._check_removable(name)
            self._remove(names, origin)

    def scale(self, label: str, count: int, origin: str) -> tuple[str, ...]:
        """See :meth:`kourou.Run.scale`."""
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise errors.GraphError(f"scale takes a whole number of nodes >= 0, got {shown(count)}")
        with self._lock:
            self._check_goes_on()
            present = sorted((r.name for r in self._present() if label_of(r.name) == label), key=index_of)
            self._check_known(label)
            surplus = tuple(reversed(present[count:]))
            if surplus:
                self._check_not_held(label, surplus)
                self._remove(surplus, origin)
                return surplus
            if len(present) == count:
                return ()
            self._check_not_held(label, (), present)
            return self._add(label, self._more(label, count - len(present)), origin)

    def _more(self, label: str, count: int) -> list[Node]:
        self._forget_removed()
        members = self._members.get(label, {})
        if not members:
            raise errors.PlanError(self._cannot(label, self._without_recipe()))
        try:
            return [another(members, self._next[label] + more) for more in range(count)]
        except errors.GraphError as error:
            raise errors.PlanError(self._cannot(label, str(error))) from None

    def _add(self, label: str, nodes: Sequence[Node], origin: str) -> tuple[str, ...]:
        if self._recipe is None:
            raise errors.PlanError(self._cannot(label, self._without_recipe()))
        self._forget_removed()
        first = self._next.get(label, 0)
        numbered = dict(enumerate(nodes, first))
        others = [node for members in self._members.values() for node in members.values()]
        names = tuple(f"{label}/{number}" for number in numbered)
        for name, node in zip(names, nodes, strict=True):
            give_name(node, name)
        before = self.plan
        running = {record.name for record in self._coordinator.directory.all() if not record.gone}
        try:
            from kourou.runtime.plan.addition import compile_addition  # noqa: PLC0415 - few programs need it

            addition = compile_addition(before, self._recipe, nodes, others, running)
            self._adopt(nodes, addition)
            self._set_plan(dataclasses.replace(before, nodes=(*before.nodes, *addition.nodes)))
            self._director.tell(AddAsked(nodes=addition.nodes, origin=origin))
            self._await(lambda: self._coordinator.directory.get(names[-1]) is not None, "nothing was added")
        except Exception:
            for node in nodes:
                give_name(node, None)
            if self.plan is not before:
                self._set_plan(before)
            raise
        self._members[label] = {**self._members.get(label, {}), **numbered}
        self._next[label] = first + len(nodes)
        return names

    def _forget_removed(self) -> None:
        """Let go of nodes that were removed; the first two of a group stay: what they differ in, others do, too."""
        records = [record for record in self._coordinator.directory.all() if record.removed]
        removed = {record.name for record in records}
        for label, members in self._members.items():
            pattern = sorted(members)[:_PATTERN]
            self._members[label] = {n: node for n, node in members.items() if n in pattern or node.name not in removed}
        self._let_go({record.name for record in records if record.gone})

    def _remove(self, names: Sequence[str], origin: str) -> None:
        def is_taken() -> bool:
            records = map(self._coordinator.directory.get, names)
            return all(record is None or record.gone or record.removed for record in records)

        self._director.tell(RemoveAsked(names=tuple(names), origin=origin))
        self._await(is_taken, "its nodes end with it")

    def _set_plan(self, plan: LaunchPlan) -> None:
        self.plan = plan
        self._folder.write_json(PLAN_FILE, plan.to_dict())

    def _await(self, holds: Callable[[], bool], otherwise: str) -> None:
        """Wait until the director has taken what it was asked for, or the run stops and it has not.

        The director does one thing after the other: what it took before a stop shows by the time the stop does.
        """
        with self._director.changed:
            while True:
                refusal = self._refusal(otherwise)  # before it is looked at
                if holds():
                    return
                if refusal is not None:
                    raise refusal
                self._director.changed.wait(_POLL_S)

    # -- what may be asked for ------------------------------------------------------------------------------------

    def _present(self) -> list[NodeRecord]:
        """Those that have not ended, and are not about to."""
        records = self._coordinator.directory.all()
        return [r for r in records if not (r.gone or r.removed) and root_of(r.name) == r.name]

    def _check_goes_on(self) -> None:
        if (refusal := self._refusal("its nodes stay as they are")) is not None:
            raise refusal

    def _refusal(self, otherwise: str) -> errors.PlanError | None:
        """What a run that stops says."""
        reason = self._coordinator.stop_reason
        if reason is None and not self._director.over:
            return None
        state = f"is stopping ({reason})" if reason is not None else "has ended"
        return errors.PlanError(f"run {self._folder.run_id} {state}: {otherwise}")

    def _check_known(self, label: str) -> None:
        labels = list(dict.fromkeys(label_of(node.name) for node in self.plan.nodes))
        if label not in labels:
            hint = meant(label, labels, "the groups are:")
            raise errors.NotFound(f"program {self.plan.program!r} has no group {shown(label)}; {hint}")

    def _check_removable(self, name: str) -> None:
        record = self._coordinator.directory.get(name)
        if record is None:
            names = [each.name for each in self._present()]
            hint = meant(name, names, "there are:")
            raise errors.NotFound(f"there is no node {name!r}; {hint}")
        if root_of(name) != name:
            raise errors.PlanError(f"{name} is a part of {root_of(name)}, which can be removed as a whole")
        if record.gone and not record.removed:
            how = f": it {record.exit.cause}" if record.exit else ""
            raise errors.NodeExited(f"{name} has ended already{how}")

    def _check_not_held(self, label: str, leaving: Sequence[str], present: Sequence[str] = ()) -> None:
        """Who was given handles of single members would call those that are gone, and never those that come."""
        there = {record.name for record in self._present()} - set(leaving)
        for node in self.plan.nodes:
            if root_of(node.name) not in there:
                continue
            held = [name for name in node.inputs if name in (leaving or present)]
            if not held or not (leaving or len(held) > 1 or held == list(present)):
                continue
            does = "would go on calling what is removed" if leaving else "would never call the new ones"
            raise errors.PlanError(
                self._cannot(
                    label,
                    f"{node.name} was given handles of single nodes ({', '.join(held)}), so it {does}; give it "
                    f"program.handle_to_group({label!r}), which follows the group",
                )
            )

    def _cannot(self, label: str, why: str) -> str:
        return f"group {label!r} of run {self._folder.run_id} cannot be scaled: {why}"

    def _without_recipe(self) -> str:
        return "its launcher was handed the plan alone (lp.submit), and cannot make nodes; they can be removed"
