"""Rules by which a structured writer makes items: what they are made of, for which table, when, and their priority."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from kourou.replay.arrays.array_types import np
from kourou.replay.arrays.signature import TensorSpec
from kourou.replay.arrays.tree import Path, TreeDef, flatten, path_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """When a rule is looked at.

    Attributes:
        step_index: of the latest step in its episode; from 0.
        steps_since_applied: since the rule last made an item in this episode; None if it has not.
        is_end_of_episode: the episode ends with this step.
        step: the latest step, as it was appended.
    """

    step_index: int
    steps_since_applied: int | None
    is_end_of_episode: bool
    step: Any


@dataclasses.dataclass(frozen=True)
class ColumnSlice:
    """Some steps of one column, counted from the latest, which is -1.

    Attributes:
        path: of the column.
        steps: negative numbers.
        squeeze: it is one step, without an axis for it.
    """

    path: Path
    steps: range
    squeeze: bool


class RuleHistory:
    """Stands for the history while a rule is read. Negative numbers and slices are steps, all else are names."""

    def __init__(self, path: Path = ()) -> None:
        self._path = path

    def __getattr__(self, name: str) -> RuleHistory:
        if name.startswith("__"):
            raise AttributeError(name)
        return RuleHistory((*self._path, name))  # of a named tuple

    def __getitem__(self, key: Any) -> RuleHistory | ColumnSlice:
        if isinstance(key, slice):
            return ColumnSlice(self._path, self._steps(key), squeeze=False)
        if isinstance(key, int) and key < 0:
            return ColumnSlice(self._path, range(key, key + 1), squeeze=True)
        return RuleHistory((*self._path, key))

    def _steps(self, part: slice) -> range:
        start, stop, step = part.start, part.stop, 1 if part.step is None else part.step
        stop = 0 if stop is None else stop
        if start is None or start >= 0 or stop > 0 or step < 1 or not range(start, stop, step):
            raise ValueError(
                f"the rule's{path_text(self._path)}[{part.start}:{part.stop}:{part.step}] does not say how many steps "
                "it is: use [-n:], [-n:-m] or [-n:-m:step]"
            )
        return range(start, stop, step)


@dataclasses.dataclass(frozen=True)
class ItemRule:
    """After each step for which it holds, an item is made.

    For example every other step, the observations of the last three and the latest action::

        ItemRule(
            "t",
            lambda past: {"observation": past["observation"][-3:], "action": past["action"][-1]},
            when=lambda moment: moment.step_index % 2 == 0,
        )

    Where an episode has not as many steps yet, or one of them lacks a column, no item is made.

    Args:
        table: its name.
        item: called once with what stands for the history: nested like a step, with ``[-1]`` (a step), ``[-3:]``,
            ``[-3:-1]`` or ``[-6::2]`` for its columns. What it returns, nested in any way, is what items look like.
        priority: of all items, or what computes it from an item's arrays, nested as ``item`` says.
        when: whether an item is to be made now; None for always. At the end of an episode it is asked once more, if no
            item was made at its last step.

    Raises:
        TypeError: ``item`` returns something that is no part of the history.
        ValueError: a slice that does not say how many steps it is, or no part at all.
    """

    table: str
    item: Callable[[Any], Any]
    priority: float | Callable[[Any], float] = 1.0
    when: Callable[[Moment], bool] | None = None
    structure: TreeDef = dataclasses.field(init=False, repr=False, compare=False)
    slices: tuple[ColumnSlice, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        structure, slices = flatten(self.item(RuleHistory()), (ColumnSlice,))
        for path, part in zip(structure.paths, slices, strict=True):
            if not isinstance(part, ColumnSlice):
                raise TypeError(
                    f"the rule for table {self.table!r}: the item's{path_text(path)} names no steps, such as "
                    f"past['observation'][-1]: {part!r}"
                )
        if not slices:
            raise ValueError(f"the rule for table {self.table!r}: an item has at least one array")
        object.__setattr__(self, "structure", structure)
        object.__setattr__(self, "slices", tuple(slices))

    @property
    def depth(self) -> int:
        """Steps that an episode has to have."""
        return max(-part.steps[0] for part in self.slices)

    def signature(self, step: Any) -> Any:
        """Nested :class:`TensorSpec` of its items, for a table.

        Args:
            step: a step, or specs of one: nested things with ``shape`` and ``dtype``.

        Raises:
            ValueError: the step lacks a column.
        """
        structure, leaves = flatten(step)
        specs = dict(zip(structure.paths, leaves, strict=True))
        found = []
        for part in self.slices:
            if part.path not in specs:
                raise ValueError(f"the step has no{path_text(part.path)}, which items for {self.table!r} are made of")
            shape = tuple(specs[part.path].shape)
            shape = shape if part.squeeze else (len(part.steps), *shape)
            found.append(TensorSpec(shape, specs[part.path].dtype, path_text(part.path).strip()))
        return self.structure.unflatten(found)


def infer_signature(rules: Sequence[ItemRule], step: Any) -> Any:
    """One signature of all the items that several rules make for one table: nested :class:`TensorSpec`.

    Args:
        rules: of one table, with items that are nested in the same way. Where they differ in a length, any will do.
        step: a step, or specs of one; see :meth:`ItemRule.signature`.

    Raises:
        ValueError: rules of several tables, or none, or whose items differ in more than lengths.
    """
    if len({rule.table for rule in rules}) != 1 or len({rule.structure for rule in rules}) != 1:
        raise ValueError("a signature is of at least one rule, and all of one table, with items nested in the same way")
    signatures = [flatten(rule.signature(step), (TensorSpec,))[1] for rule in rules]
    merged = [_general(path, specs) for path, *specs in zip(rules[0].structure.paths, *signatures, strict=True)]
    return rules[0].structure.unflatten(merged)


def _general(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec:
    """The spec that all of these satisfy."""
    shapes = [spec.shape or () for spec in specs]
    if len({spec.dtype for spec in specs}) != 1 or len(set(map(len, shapes))) != 1:
        raise ValueError(f"the rules' items differ in{path_text(path)}: {', '.join(map(repr, specs))}")
    shape = tuple(lengths[0] if len(set(lengths)) == 1 else None for lengths in zip(*shapes, strict=True))
    return TensorSpec(shape, specs[0].dtype, specs[0].name)


def td_error(field: Callable[[Any], Any], max_weight: float = 0.9) -> Callable[[Any], float]:
    """A priority from errors of many steps: ``max_weight * max|e| + (1 - max_weight) * mean|e|``.

    Args:
        field: gives the errors, of an item's arrays.
        max_weight: from 0 to 1. 0.9 is what R2D2 uses.
    """
    if not 0 <= max_weight <= 1:
        raise ValueError(f"max_weight is from 0 to 1, not {max_weight}")

    def priority(item: Any) -> float:
        errors = np.abs(field(item))
        return float(max_weight * errors.max() + (1 - max_weight) * errors.mean())

    return priority
