"""Writers of the same steps to several servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kourou.arguments import also_named
from kourou.errors import TableNotFound
from kourou.replay.arrays.array_types import Integers, Keys
from kourou.replay.arrays.tree import Path, flatten
from kourou.replay.writers.base import FlushedAtExit, ItemWriter
from kourou.replay.writers.batch import BatchWriter
from kourou.replay.writers.history import TrajectoryColumn
from kourou.replay.writers.structured import StructuredWriter
from kourou.replay.writers.trajectory import TrajectoryWriter

W = TypeVar("W", bound="ItemWriter[Any] | StructuredWriter")
ItemWriterT = TypeVar("ItemWriterT", bound="ItemWriter[Any]")


class _Group(FlushedAtExit, Generic[W]):
    """Writers of several servers that are used as one. Also a context manager, which flushes."""

    def __init__(self, writers: Iterable[W]) -> None:
        self._writers = list(writers)

    @also_named(timeout_ms="timeout_s")
    def flush(self, block_until_num_items: int = 0, *, timeout_s: float | None = None) -> None:
        """See :meth:`TrajectoryWriter.flush`; ``block_until_num_items`` of each server."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        _for_all(self._writers, lambda writer: writer.flush(block_until_num_items, timeout_s=_left_s(deadline)))

    @property
    def policy_version(self) -> int:
        """See :class:`TrajectoryWriter`."""
        return self._writers[0].policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        for writer in self._writers:
            writer.policy_version = version

    @property
    def lost_items(self) -> int:
        """Of all servers; see :class:`TrajectoryWriter`."""
        return sum(writer.lost_items for writer in self._writers)

    def close(self) -> None:
        """Let go of everything. Items that were not flushed may or may not arrive. May be called twice."""
        for writer in self._writers:
            writer.close()


class _GroupItems(_Group[ItemWriterT]):
    """What writers of several servers' items have in common."""

    def __init__(self, writers: Mapping[str, ItemWriterT]) -> None:
        super().__init__(dict.fromkeys(writers.values()))
        self._by_table = dict(writers)
        if not self._writers:
            raise ValueError("a writer for no table")

    @property
    def history(self) -> Any:
        """See :attr:`TrajectoryWriter.history`."""
        return self._writers[0].history

    def _writer_of(self, table: str) -> ItemWriterT:
        writer = self._by_table.get(table)
        if writer is None:
            raise TableNotFound(f"this writer writes no table {table!r}; it writes {', '.join(self._by_table)}")
        return writer

    def _seen_by(self, writer: ItemWriterT, trajectory: Any) -> Any:
        """The same parts of another writer's history: all have seen the same steps, so they number them alike."""
        first = self._writers[0]
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

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """See :meth:`TrajectoryWriter.append`."""
        for writer in self._writers:
            writer.append(data, partial_step=partial_step)

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self._writers[0].episode_steps

    def create_item(self, table: str, priority: float, trajectory: Any) -> int:
        """See :meth:`TrajectoryWriter.create_item`."""
        writer = self._writer_of(table)
        return writer.create_item(table, priority, self._seen_by(writer, trajectory))

    @also_named(timeout_ms="timeout_s")
    def end_episode(self, clear_buffers: bool = True, *, timeout_s: float | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """See :meth:`TrajectoryWriter.end_episode`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        _for_all(self._writers, lambda writer: writer.end_episode(clear_buffers, timeout_s=_left_s(deadline)))

    def configure(self, path: Path, *, num_keep_alive_refs: int, max_chunk_length: int | None = None) -> None:
        """See :meth:`TrajectoryWriter.configure`."""
        for writer in self._writers:
            writer.configure(path, num_keep_alive_refs=num_keep_alive_refs, max_chunk_length=max_chunk_length)


class GroupBatchWriter(_GroupItems[BatchWriter]):
    """What a :class:`BatchWriter` can do; each item goes to the server that has its table, every step to all."""

    def append(self, data: Any) -> None:
        """See :meth:`BatchWriter.append`."""
        for writer in self._writers:
            writer.append(data)

    @property
    def episode_steps(self) -> Integers:
        """Steps [B] since the episode of each environment began."""
        return self._writers[0].episode_steps

    def end_episodes(self, ended: Any = None) -> None:
        """See :meth:`BatchWriter.end_episodes`."""
        for writer in self._writers:
            writer.end_episodes(ended)

    def create_items(self, table: str, priorities: Any, trajectory: Any, environments: Any = None) -> Keys:
        """See :meth:`BatchWriter.create_items`."""
        writer = self._writer_of(table)
        return writer.create_items(table, priorities, self._seen_by(writer, trajectory), environments)


class GroupStructuredWriter(_Group[StructuredWriter]):
    """What a :class:`StructuredWriter` can do; each server gets what the rules of its tables use."""

    def __init__(self, writers: Sequence[StructuredWriter]) -> None:
        if not writers:
            raise ValueError("a structured writer has at least one rule")
        super().__init__(writers)

    @property
    def step_is_open(self) -> bool:
        """Whether the latest step is not complete."""
        return self._writers[0].step_is_open

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self._writers[0].episode_steps

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """See :meth:`StructuredWriter.append`."""
        _for_all(self._writers, lambda writer: writer.append(data, partial_step=partial_step))

    @also_named(timeout_ms="timeout_s")
    def end_episode(self, clear_buffers: bool = True, *, timeout_s: float | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """See :meth:`StructuredWriter.end_episode`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        _for_all(self._writers, lambda writer: writer.end_episode(clear_buffers, timeout_s=_left_s(deadline)))


def _for_all(writers: Sequence[W], act: Callable[[W], None]) -> None:
    """Do it with each, whatever happens to one: all have seen the same steps and episodes. Raises the first problem."""
    problem: Exception | None = None
    for writer in writers:
        try:
            act(writer)
        except Exception as error:  # noqa: BLE001 - raised below
            problem = problem or error
    if problem is not None:
        raise problem


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
