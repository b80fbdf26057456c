"""``reverb.structured_writer``: patterns and conditions, as the rules of kourou's structured writer."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kourou.replay import ItemRule, Moment, StructuredWriter, infer_signature, td_error as _td_error
from kourou.replay.arrays.tree import Path
from kourou.replay.writers.rules import RuleHistory

__all__ = [
    "Condition",
    "StructuredWriter",
    "constant_priority_fn",
    "create_config",
    "create_reference_step",
    "infer_signature",
    "pattern_from_transform",
    "td_error",
    "unpack_pattern",
]


def create_reference_step(step_structure: Any) -> Any:
    """What stands for the history of a step's columns: ``reference["obs"][-3:]``."""
    return _map_with_path(RuleHistory, step_structure)


def pattern_from_transform(step_structure: Any, transform: Callable[[Any], Any]) -> Any:
    """What a function makes of a reference step."""
    return transform(create_reference_step(step_structure))


def create_config(pattern: Any, table: str, conditions: Sequence[Any] = (), priority: Any = 1.0) -> ItemRule:
    """A rule: what items are made of, for which table, and when."""
    when = functools.partial(_all_hold, tuple(conditions)) if conditions else None
    return ItemRule(table, lambda _history: pattern, 1.0 if priority is None else priority, when)


def unpack_pattern(config: ItemRule) -> Any:
    """The pattern of a rule."""
    return config.structure.unflatten(config.slices)


def constant_priority_fn(value: float) -> float:
    """The same priority for all items."""
    return value


def td_error(max_priority_weight: float, step_structure: Any, get_field: Callable[[Any], Any]) -> Any:
    """A priority from the errors of an item's steps."""
    del step_structure
    return _td_error(get_field, max_priority_weight)


class _Value:
    """A number that is known when a rule is looked at; compared, it is a condition."""

    def __init__(self, read: Callable[[Moment], Any]) -> None:
        self._read = read

    def __mod__(self, number: int) -> _Value:
        return _Value(lambda moment: self._read(moment) % number)

    def _condition(self, compare: Callable[[Any, Any], Any], other: Any) -> Callable[[Moment], bool]:
        return lambda moment: bool(compare(self._read(moment), other))

    if not TYPE_CHECKING:  # to type checkers, these two give a bool
        __eq__ = functools.partialmethod(_condition, operator.eq)
        __ne__ = functools.partialmethod(_condition, operator.ne)
    __gt__ = functools.partialmethod(_condition, operator.gt)
    __ge__ = functools.partialmethod(_condition, operator.ge)
    __lt__ = functools.partialmethod(_condition, operator.lt)
    __le__ = functools.partialmethod(_condition, operator.le)
    __hash__ = object.__hash__


class Condition:
    """What conditions are made of."""

    @staticmethod
    def step_index() -> _Value:
        """The step's place in its episode."""
        return _Value(operator.attrgetter("step_index"))

    @staticmethod
    def steps_since_applied() -> _Value:
        """Steps since the rule last made an item; at first, since the episode began."""
        return _Value(lambda m: m.step_index + 1 if m.steps_since_applied is None else m.steps_since_applied)

    @staticmethod
    def is_end_episode() -> Callable[[Moment], bool]:
        """The episode ends with this step."""
        return operator.attrgetter("is_end_of_episode")

    @staticmethod
    def data(step_structure: Any) -> Any:
        """Numbers of the latest step, nested as it is."""
        return _map_with_path(lambda path: _Value(lambda moment: _at(moment.step, path)), step_structure)


def _all_hold(conditions: Sequence[Callable[[Moment], bool]], moment: Moment) -> bool:
    return all(condition(moment) for condition in conditions)


def _at(step: Any, path: Path) -> Any:
    for name in path:
        step = getattr(step, str(name)) if hasattr(step, "_fields") else step[name]
    return step


def _map_with_path(make: Callable[[Path], Any], structure: Any, path: Path = ()) -> Any:
    """The same structure of what is made of the paths of its leaves; None is one."""
    if isinstance(structure, Mapping):
        return {name: _map_with_path(make, value, (*path, name)) for name, value in structure.items()}
    fields: Sequence[str] | None = getattr(structure, "_fields", None)
    if isinstance(structure, tuple) and fields is not None:
        named = zip(fields, structure, strict=True)
        return type(structure)(*(_map_with_path(make, value, (*path, name)) for name, value in named))
    if isinstance(structure, list | tuple):
        return type(structure)(_map_with_path(make, value, (*path, at)) for at, value in enumerate(structure))
    return make(path)
