"""Writers of the same steps to several servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kourou.errors import TableNotFound
from kourou.replay.arrays.array_types import Integers, Keys
from kourou.replay.arrays.tree import flatten
from kourou.replay.writers.base import ItemWriter, WriterGroup, in_turn, whatever_happens
from kourou.replay.writers.batch import BatchWriter
from kourou.replay.writers.history import TrajectoryColumn
from kourou.replay.writers.structured import StructuredWriter
from kourou.replay.writers.trajectory import TrajectoryWriter

ItemWriterT = TypeVar("ItemWriterT", bound="ItemWriter[Any]")


class _GroupItems(WriterGroup[ItemWriterT]):
    """What writers of several servers' items have in common."""

    def __init__(self, writers: Mapping[str, ItemWriterT]) -> None:
        super().__init__(dict.fromkeys(writers.values()))
        self._by_table = dict(writers)
        if not self.writers:
            raise ValueError("a writer for no table")

    @property
    def history(self) -> Any:
        """See :attr:`TrajectoryWriter.history`."""
        return self.writers[0].history

    def _writer_of(self, table: str) -> ItemWriterT:
        writer = self._by_table.get(table)
        if writer is None:
            raise TableNotFound(f"this writer writes no table {table!r}; it writes {', '.join(self._by_table)}")
        return writer

    def _seen_by(self, writer: ItemWriterT, trajectory: Any) -> Any:
        """The same parts of another writer's history: all have seen the same steps, so they number them alike."""
        first = self.writers[0]
        if writer is first:
            return trajectory
        structure, parts = flatten(trajectory)
        moved = [
            TrajectoryColumn(writer, part.column, part.rows, part.squeeze)
            if isinstance(part, TrajectoryColumn) and part.source is first
            else part
            for part in parts
        ]
        return structure.unflatten(moved)


class GroupWriter(_GroupItems[TrajectoryWriter]):
    """What a :class:`TrajectoryWriter` can do; each item goes to the server that has its table, every step to all.

    Args:
        writers: by table, the writer of its server.
    """

    append = in_turn(TrajectoryWriter.append)
    configure = in_turn(TrajectoryWriter.configure)
    end_episode = whatever_happens(TrajectoryWriter.end_episode)

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self.writers[0].episode_steps

    def create_item(self, table: str, priority: float, trajectory: Any) -> int:
        """See :meth:`TrajectoryWriter.create_item`."""
        writer = self._writer_of(table)
        return writer.create_item(table, priority, self._seen_by(writer, trajectory))


class GroupBatchWriter(_GroupItems[BatchWriter]):
    """What a :class:`BatchWriter` can do; each item goes to the server that has its table, every step to all."""

    append = in_turn(BatchWriter.append)
    end_episodes = in_turn(BatchWriter.end_episodes)

    @property
    def episode_steps(self) -> Integers:
        """Steps [B] since the episode of each environment began."""
        return self.writers[0].episode_steps

    def create_items(self, table: str, priorities: Any, trajectory: Any, environments: Any = None) -> Keys:
        """See :meth:`BatchWriter.create_items`."""
        writer = self._writer_of(table)
        return writer.create_items(table, priorities, self._seen_by(writer, trajectory), environments)


class GroupStructuredWriter(WriterGroup[StructuredWriter]):
    """What a :class:`StructuredWriter` can do; each server gets what the rules of its tables use."""

    append = whatever_happens(StructuredWriter.append)
    end_episode = whatever_happens(StructuredWriter.end_episode)

    def __init__(self, writers: Sequence[StructuredWriter]) -> None:
        if not writers:
            raise ValueError("a structured writer has at least one rule")
        super().__init__(writers)

    @property
    def step_is_open(self) -> bool:
        """Whether the latest step is not complete."""
        return self.writers[0].step_is_open

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self.writers[0].episode_steps
