"""A writer of the same steps to several servers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from kourou.errors import KourouError, TableNotFound
from kourou.replay.history import TrajectoryColumn
from kourou.replay.structure import Path, flatten
from kourou.replay.trajectory_writer import TrajectoryWriter

__all__ = ["GroupWriter"]


class GroupWriter:
    """What a :class:`TrajectoryWriter` can do; each item goes to the server that has its table, every step to all.

    Args:
        writers: by table, the writer of its server.
    """

    def __init__(self, writers: Mapping[str, TrajectoryWriter]) -> None:
        self._by_table = dict(writers)
        self._writers = list(dict.fromkeys(self._by_table.values()))
        if not self._writers:
            raise ValueError("a writer for no table")

    def __enter__(self) -> GroupWriter:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if not isinstance(error, KourouError):
                self.flush()
        finally:
            self.close()

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """See :meth:`TrajectoryWriter.append`."""
        for writer in self._writers:
            writer.append(data, partial_step=partial_step)

    @property
    def history(self) -> Any:
        """See :attr:`TrajectoryWriter.history`."""
        return self._writers[0].history

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self._writers[0].episode_steps

    def create_item(self, table: str, priority: float, trajectory: Any) -> int:
        """See :meth:`TrajectoryWriter.create_item`."""
        writer = self._by_table.get(table)
        if writer is None:
            raise TableNotFound(f"this writer writes no table {table!r}; it writes {', '.join(self._by_table)}")
        if writer is self._writers[0]:
            return writer.create_item(table, priority, trajectory)
        structure, parts = flatten(trajectory)  # all writers have seen the same steps, so they number them alike
        moved = [
            TrajectoryColumn(writer, part.column, part.rows, part.squeeze)
            if isinstance(part, TrajectoryColumn) and part.source is self._writers[0]
            else part
            for part in parts
        ]
        return writer.create_item(table, priority, structure.unflatten(moved))

    def flush(self, block_until_num_items: int = 0, timeout_ms: int | None = None) -> None:
        """See :meth:`TrajectoryWriter.flush`; ``block_until_num_items`` of each server."""
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        for writer in self._writers:
            writer.flush(block_until_num_items, _left_ms(deadline))

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """See :meth:`TrajectoryWriter.end_episode`."""
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        problem: Exception | None = None
        for writer in self._writers:  # the new episode begins for all of them, whatever happens to one
            try:
                writer.end_episode(clear_buffers, _left_ms(deadline))
            except Exception as error:  # noqa: BLE001 - raised below
                problem = problem or error
        if problem is not None:
            raise problem

    def configure(self, path: Path, *, num_keep_alive_refs: int, max_chunk_length: int | None = None) -> None:
        """See :meth:`TrajectoryWriter.configure`."""
        for writer in self._writers:
            writer.configure(path, num_keep_alive_refs=num_keep_alive_refs, max_chunk_length=max_chunk_length)

    def close(self) -> None:
        """Let go of everything. Items that were not flushed may or may not arrive. May be called twice."""
        for writer in self._writers:
            writer.close()


def _left_ms(deadline: float | None) -> int | None:
    return None if deadline is None else max(0, int(1000 * (deadline - time.monotonic())))
