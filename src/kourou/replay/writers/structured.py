"""The writer that makes items by rules: one says once what they are, and then appends steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kourou.arguments import also_named
from kourou.replay.arrays.tree import path_text
from kourou.replay.writers.base import WriterGroup
from kourou.replay.writers.history import TrajectoryColumn
from kourou.replay.writers.rules import ColumnSlice, ItemRule, Moment
from kourou.replay.writers.trajectory import TrajectoryWriter


class StructuredWriter(WriterGroup[TrajectoryWriter]):
    """Writes the steps of one stream, and the items that rules make of them. Also a context manager, which flushes.

    Columns that no rule uses are not sent. After each step a rule makes one item at most.

    Args:
        make_writer: makes the writer that does the writing, from the number of steps to keep.
        rules: at least one.

    Raises:
        ValueError: there are no rules.
    """

    def __init__(self, make_writer: Callable[[int], TrajectoryWriter], rules: Sequence[ItemRule]) -> None:
        self._rules = tuple(rules)
        if not self._rules:
            raise ValueError("a structured writer has at least one rule")
        self._writer = make_writer(max(rule.depth for rule in self._rules))
        super().__init__([self._writer])
        self._used = _tree(part.path for rule in self._rules for part in rule.slices)
        self._applied: list[int | None] = [None] * len(self._rules)  # at which step of the episode each was last
        self._step: Any = None  # the latest step, as far as it is known
        self._open: Any = None  # the part of it that rules use
        self._index = -1  # of the latest complete step in its episode
        self._is_open = False

    @property
    def step_is_open(self) -> bool:
        """Whether the latest step is not complete."""
        return self._is_open

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self._index + 1

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """Add a step, or a part of one, and make the items that are due when it is complete.

        Args:
            data: arrays, nested in dicts, lists and tuples.
            partial_step: more of this step comes with the next ``append``.

        Raises:
            ValueError: a dtype or shape differs from earlier steps, or a field was in this open step before; a priority
                that the table does not take.
            TableNotFound, SignatureError: of an item.
        """
        used = _used(data, self._used)
        step = data
        if self._is_open:
            used = _joined(self._open, used, ())
            step = {**self._step, **data} if isinstance(data, Mapping) else data
        if not partial_step:
            if used is None:
                self._writer.append_nothing()
            else:
                self._writer.append(used)
        self._open, self._step, self._is_open = used, step, partial_step
        if not partial_step:
            self._index += 1
            self._apply(is_end=False)

    @also_named(timeout_ms="timeout_s")
    def end_episode(self, clear_buffers: bool = True, *, timeout_s: float | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """Make the items that are due at the end of an episode, flush, and begin a new one.

        Args:
            clear_buffers: forget the history, so that no item reaches over the end of the episode.
            timeout_s: as for ``flush``.
        """
        if self._index >= 0 and not self._is_open:
            self._apply(is_end=True)
        self._index, self._is_open = -1, False
        self._applied = [None] * len(self._rules)
        self._writer.end_episode(clear_buffers, timeout_s=timeout_s)

    def _apply(self, *, is_end: bool) -> None:
        for number, rule in enumerate(self._rules):
            last = self._applied[number]
            if last == self._index:
                continue  # it has made an item of this step
            moment = Moment(
                step_index=self._index,
                steps_since_applied=None if last is None else self._index - last,
                is_end_of_episode=is_end,
                step=self._step,
            )
            parts = self._parts(rule)
            if parts is None or (rule.when is not None and not rule.when(moment)):
                continue
            trajectory = rule.structure.unflatten(parts)
            priority = rule.priority
            if callable(priority):
                priority = priority(rule.structure.unflatten([part.numpy() for part in parts]))
            self._writer.create_item(rule.table, priority, trajectory)
            self._applied[number] = self._index

    def _parts(self, rule: ItemRule) -> list[TrajectoryColumn] | None:
        """The parts of the history that its items are made of; None when one of them is not there."""
        parts = []
        for piece in rule.slices:
            part = self._part(piece)
            if part is None:
                return None
            parts.append(part)
        return parts

    def _part(self, piece: ColumnSlice) -> TrajectoryColumn | None:
        column = self._writer.column_at(piece.path)
        if column is None:
            return None
        steps = self._writer.column_steps(column)
        if -piece.steps[0] > len(steps):
            return None
        rows = range(steps.stop + piece.steps.start, steps.stop + piece.steps.stop, piece.steps.step)
        if self._writer.lacks(column, rows):
            return None
        return TrajectoryColumn(self._writer, column, rows, piece.squeeze)


def _tree(paths: Any) -> dict[Any, Any]:
    """Names within names, down to columns, which are empty."""
    tree: dict[Any, Any] = {}
    for path in paths:
        below = tree
        for name in path:
            below = below.setdefault(name, {})
    return tree


def _used(data: Any, tree: dict[Any, Any]) -> Any:
    """The part of a step that rules use, in dicts; None for nothing."""
    if not tree:
        return data
    if isinstance(data, Mapping):
        found = {name: _used(data[name], below) for name, below in tree.items() if name in data}
    elif isinstance(data, tuple) and hasattr(data, "_fields"):
        found = {name: _used(getattr(data, name), below) for name, below in tree.items() if hasattr(data, name)}
    elif isinstance(data, list | tuple):
        found = {index: _used(data[index], below) for index, below in tree.items() if index < len(data)}
    else:
        return None
    return {name: value for name, value in found.items() if value is not None} or None


def _joined(earlier: Any, later: Any, path: tuple[Any, ...]) -> Any:
    """Two parts of a step."""
    if earlier is None or later is None:
        return later if earlier is None else earlier
    if not isinstance(earlier, dict) or not isinstance(later, dict):
        raise ValueError(f"the open step has{path_text(path)} already")  # noqa: TRY004 - it is no wrong type
    both = {name: _joined(earlier.get(name), value, (*path, name)) for name, value in later.items()}
    return {**earlier, **both}
