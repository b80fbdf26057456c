"""One more node like those of a group: what its members have in common, and how they go on where they differ."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from kourou import errors
from kourou.nested import parts_of
from kourou.runtime.graph.handles import Deferred, Handle
from kourou.runtime.graph.node import Node
from kourou.shown import shown

_OF_PROGRAM = frozenset({"_name", "_run_id"})


def another(members: Mapping[int, Node], number: int) -> Node:
    """A node without a name, made like the members of a group.

    It has the same arguments. Whole numbers that go up with the members' own (``seed=i``) go on with its number.

    Args:
        members: number → node.
        number: that of the new one.

    Raises:
        GraphError: the members do not say how it would be made, or consist of other nodes.
    """
    first = next(iter(members.values()))
    if first.children():
        raise errors.GraphError(
            f"{first.name} consists of {len(first.children())} nodes (ranks, or a colocation's), whose number was "
            "chosen when it was made: run.add_node(...) adds another one"
        )
    if any(type(node) is not type(first) or vars(node).keys() != vars(first).keys() for node in members.values()):
        kinds = ", ".join(dict.fromkeys(node.describe() for node in members.values()))
        raise errors.GraphError(f"its nodes are of several kinds ({kinds}): run.add_node(...) adds one of them")
    new = copy.copy(first)
    for name in vars(first).keys() - _OF_PROGRAM:
        values = [vars(node)[name] for node in members.values()]
        setattr(new, name, _next(name.lstrip("_"), values, list(members), number))
    new._name = new._run_id = None  # noqa: SLF001 - it is in no program yet
    return new


def _next(path: str, values: Sequence[Any], numbers: Sequence[int], number: int) -> Any:
    """What goes on a row of values, one of each member."""
    first = values[0]
    if all(value is first for value in values):
        return first
    if all(isinstance(value, Deferred) for value in values):
        children = [value.nested_children() for value in values]
        new = [
            _next(path + row[0][0], [part for _, part in row], numbers, number) for row in zip(*children, strict=True)
        ]
        if all(made is part for made, (_, part) in zip(new, children[0], strict=True)):
            return first
    parts = [part for value in values if (part := parts_of(value)) is not None]
    if len(parts) == len(values) and all(part[:2] == parts[0][:2] for part in parts):
        form, names, own = parts[0]
        rows = zip(names, zip(*(part.values for part in parts), strict=True), strict=True)
        new = [_next(path + form.step(name), row, numbers, number) for name, row in rows]
        return first if all(a is b for a, b in zip(new, own, strict=True)) else form.rebuild(first, names, new)
    if all(_is_alike(first, value) for value in values):
        return first
    if all(type(value) is int for value in values):
        step, rest = divmod(values[1] - first, numbers[1] - numbers[0])
        if not rest and all(v == first + step * (n - numbers[0]) for v, n in zip(values, numbers, strict=True)):
            return first + step * (number - numbers[0])
    listed = ", ".join(shown(value) for value in values[:3]) + (", …" if values[3:] else "")
    raise errors.GraphError(
        f"its nodes differ in {path} ({listed}), which does not say what another one gets: "
        "run.add_node(...) adds one; what follows from a node's number alone can be asked of lp.get_context().index"
    )


def _is_alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Handle):
        return bool(one.node_name == other.node_name)
    with contextlib.suppress(Exception):  # arrays have no truth
        if bool(one == other):
            return True
    with contextlib.suppress(Exception):
        return bool(pickle.dumps(one) == pickle.dumps(other))
    return False
