"""The writer: steps as they come, and items made of those that it still knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from kourou.errors import KourouError
from kourou.replay.arrays import Array, np
from kourou.replay.flusher import flusher
from kourou.replay.history import ColumnHistory, TrajectoryColumn
from kourou.replay.layout import ColumnSpec
from kourou.replay.outgoing import Outgoing
from kourou.replay.pattern_book import PatternBook
from kourou.replay.remote import Remote
from kourou.replay.step_layout import StepLayout
from kourou.replay.stream import Stream
from kourou.replay.structure import Path, path_text

__all__ = ["TrajectoryWriter"]

_LONGEST_BLOCK = 64  # rows; longer blocks would waste memory on rows that no item needs any more


class TrajectoryWriter:
    """Writes the steps of one stream (an environment), and items made of them. Also a context manager, which flushes.

    Items are sent in batches, soon after they were made; ``flush`` waits until the server has them. A writer that is
    ahead of its server by ``max_in_flight_items`` waits for it, in ``create_item`` or ``append``.

    Args:
        remote: the server.
        num_keep_alive_refs: steps that are kept: items may be made of them.
        max_in_flight_items: items that the server may not have confirmed.

    Raises:
        ValueError: an argument below 1.
    """

    def __init__(self, remote: Remote, num_keep_alive_refs: int, *, max_in_flight_items: int = 4096) -> None:
        if num_keep_alive_refs < 1 or max_in_flight_items < 1:
            raise ValueError(
                f"num_keep_alive_refs={num_keep_alive_refs}, max_in_flight_items={max_in_flight_items}: at least 1 each"
            )
        self._remote = remote
        self._keep = num_keep_alive_refs
        self._block_length: int | None = None
        self._keeps: dict[Path, int] = {}
        self._column_keeps: list[int] = []
        self._layout = StepLayout()
        self._stream: Stream | None = None
        self._outgoing = Outgoing(remote, max_in_flight_items)
        self._book = PatternBook(self, remote)
        self._patterns: dict[Any, int] = {}
        self._history: Any = None
        self._open_row: int | None = None  # of a step that is not complete
        self._open_missing: set[int] = set()
        self._episode_steps = 0
        self._closed = False
        self._lock = threading.RLock()
        flusher.watch(self)

    def __enter__(self) -> TrajectoryWriter:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if not isinstance(error, KourouError):  # the server is the trouble then: do not wait for it
                self.flush()
        finally:
            self.close()

    # -- steps ------------------------------------------------------------------------------------------------------

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """Add a step, or the rest of one that was begun with ``partial_step``.

        Args:
            data: arrays, nested in dicts, lists and tuples. Dicts may have other keys than before; a step lacks what
                it was not given.
            partial_step: more of this step comes with the next ``append``.

        Raises:
            ValueError: a dtype or shape differs from earlier steps, or a field was in this open step before.
            TypeError: something that has no dtype of fixed size, such as an object.
        """
        with self._lock:
            stream = self._stream
            row = self._open_row
            flat = self._layout.flat
            if stream is None or row is not None or partial_step or flat is None or data.__class__ is not dict:
                self._append_slowly(data, partial_step=partial_step)
                return
            if not stream.left and not stream.leased:
                self._await_lease(stream)
            if len(data) != len(flat):
                self._append_slowly(data, partial_step=False)
                return
            arrays, columns = stream.arrays, stream.columns
            dtypes = self._layout.dtypes
            placed = []
            for key, value in data.items():
                column = flat.get(key)
                if column is None or value.__class__ is not np.ndarray:
                    self._append_slowly(data, partial_step=False)
                    return
                if value.dtype != dtypes[column] or value.shape != columns[column].shape:
                    self._layout.check(column, value)
                placed.append((column, value))
            row = stream.begin_step()
            arrays = stream.arrays
            for column, value in placed:
                arrays[column][row] = value
            self._episode_steps += 1

    def _append_slowly(self, data: Any, *, partial_step: bool) -> None:
        self._check_open()
        values, has_new = self._layout.match(data)
        if self._open_row is not None:
            again = [column for column, _ in values if column not in self._open_missing]
            known = 0 if self._stream is None else len(self._stream.columns)
            again = [column for column in again if column < known]
            if again:
                path = self._layout.columns[again[0]].path
                raise ValueError(f"the open step has{path_text(path)} already")
        if has_new or self._stream is None:
            self._change_layout()
        stream = self._stream
        assert stream is not None  # noqa: S101 - made in the line above; for the type checker
        if self._open_row is None:
            if stream.needs_block:
                self._await_lease(stream)
            self._open_row = stream.begin_step()
            self._open_missing = set(range(len(stream.columns)))
        for column, value in values:
            stream.arrays[column][self._open_row] = value
        self._open_missing.difference_update(column for column, _ in values)
        step = stream.steps - 1
        if self._open_missing:
            stream.missing[step] = set(self._open_missing)
        else:
            stream.missing.pop(step, None)
        if not partial_step:
            self._open_row = None
            self._episode_steps += 1

    def _change_layout(self) -> None:
        """Go on with more columns, in another store. Steps that are kept are copied there."""
        old = self._stream
        keep = max([self._keep, *self._keeps.values()])
        length = self._block_length or min(keep, _LONGEST_BLOCK)
        columns = self._layout.columns
        self._column_keeps = [self._keeps.get(spec.path, self._keep) for spec in columns]
        self._history = self._layout.nested([ColumnHistory(self, column) for column in range(len(columns))])
        self._patterns.clear()
        if old is None:
            self._stream = Stream(self._remote, columns, length, keep, 0)
            return
        kept = range(old.oldest, old.steps)
        self._send(old)
        stream = Stream(self._remote, columns, length, keep, kept.start)
        added = set(range(len(old.columns), len(columns)))
        for step in kept:
            if stream.needs_block:
                self._await_lease(stream)
            row = stream.begin_step()
            for column, value in enumerate(old.arrays):
                stream.arrays[column][row] = value[old.rows([step])[0]]
            stream.missing[step] = old.missing.get(step, set()) | added
            if self._open_row is not None and step == kept[-1]:
                self._open_row = row
                self._open_missing |= added
        old.end()
        self._send(old)
        self._stream = stream

    # -- items ------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> Any:
        """The steps that are kept, nested like a step: ``history["obs"][-1]``, ``history["obs"][-3:]``.

        Raises:
            RuntimeError: nothing was appended yet.
        """
        if self._history is None:
            raise RuntimeError("history cannot be used before the first step was appended")
        return self._history

    @property
    def episode_steps(self) -> int:
        """Complete steps since the episode began."""
        return self._episode_steps

    def create_item(self, table: str, priority: float, trajectory: Any) -> int:
        """Make an item; its key.

        Args:
            table: its table.
            priority: its priority there.
            trajectory: parts of the history, nested in any way.

        Raises:
            TableNotFound: there is no such table.
            TypeError: something in the trajectory is no part of a history.
            ValueError: a priority that the table does not take, or a step that is not kept any more, or lacks a column.
            SignatureError: the item does not look as the table's signature says.
        """
        with self._lock:
            outgoing = self._outgoing
            items = outgoing.tables.get(table)
            if items is None or not priority >= 0:
                items = outgoing.check(table, priority)
            stream = self._stream
            if stream is None:
                self._check_open()
                raise ValueError("there are no steps to make an item of")
            if trajectory.__class__ is dict and len(trajectory) == 1:
                ((name, part),) = trajectory.items()
                if part.__class__ is TrajectoryColumn and part.rows.__class__ is range:
                    rows = part.rows
                    key: Any = name, part.column, len(rows), rows.step
                    base = rows.start
                    if part.source is not self or not rows or rows.step < 0 or base < stream.oldest or stream.missing:
                        self._book.check_part(stream, part)
                        base = min(rows)
                else:
                    base, key = self._book.describe(stream, trajectory)
            else:
                base, key = self._book.describe(stream, trajectory)
            pattern = self._patterns.get(key)
            if pattern is None:
                pattern = self._patterns[key] = self._book.register(stream, base, trajectory)
            if pattern not in items.checked:
                self._book.check_signature(table, trajectory)
                items.checked.add(pattern)
            made = outgoing.add(items, float(priority), (pattern, *stream.place(base)))
            if outgoing.pending >= stream.batch_items:
                outgoing.make_room()
                self._send(stream)
            elif outgoing.pending == 1:
                flusher.wake()
            return made

    # -- sending ----------------------------------------------------------------------------------------------------

    def flush(self, block_until_num_items: int = 0, timeout_ms: int | None = None) -> None:
        """Send everything, and wait until the server has confirmed all but ``block_until_num_items`` items.

        Args:
            block_until_num_items: items that may still be on their way.
            timeout_ms: 0 sends and looks once, None waits.

        Raises:
            DeadlineExceeded: there are more on their way. They will arrive; flush again to wait on.
            Exception: whatever the server said about an item.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        with self._lock:
            if self._stream is not None:
                self._send(self._stream)
            self._outgoing.wait(block_until_num_items, deadline)

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """Flush, then begin a new episode.

        Args:
            clear_buffers: forget the history, so that no item reaches over the end of the episode.
            timeout_ms: as for ``flush``.

        Raises:
            DeadlineExceeded: the items did not all arrive in time. The new episode has begun nevertheless.
        """
        with self._lock:
            try:
                self.flush(timeout_ms=timeout_ms)
            finally:
                self._open_row = None
                self._episode_steps = 0
                if clear_buffers and self._stream is not None:
                    self._stream.clear()

    def configure(self, path: Path, *, num_keep_alive_refs: int, max_chunk_length: int | None = None) -> None:
        """Keep another number of steps of one column.

        Args:
            path: of the column: keys and indices, from the outside in. It need not exist yet.
            num_keep_alive_refs: steps to keep of it.
            max_chunk_length: rows of a block, for all columns; None chooses.

        Raises:
            ValueError: a number below 1.
            RuntimeError: steps were appended: how they are stored is settled.
        """
        if num_keep_alive_refs < 1 or (max_chunk_length is not None and max_chunk_length < 1):
            raise ValueError("num_keep_alive_refs and max_chunk_length are at least 1")
        with self._lock:
            if self._stream is not None:
                raise RuntimeError("configure a writer before its first step")
            self._keeps[tuple(path)] = num_keep_alive_refs
            if max_chunk_length is not None:
                self._block_length = min(max_chunk_length, self._block_length or max_chunk_length)

    def close(self) -> None:
        """Let go of everything. Items that were not flushed may or may not arrive. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            flusher.forget(self)
            if self._stream is not None:
                self._stream.end()
                self._send(self._stream)
                self._stream = None

    def send_pending(self) -> bool:
        """Send what waits; whether there was anything. For the thread that does so when the writer's own is busy."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            if self._stream is None or not self._outgoing.pending:
                return False
            if self._outgoing.has_room:
                self._send(self._stream)
            return True
        finally:
            self._lock.release()

    def _send(self, stream: Stream) -> None:
        finished = stream.steps if self._open_row is None else stream.steps - 1
        self._outgoing.send(stream, finished)

    def _await_lease(self, stream: Stream) -> None:
        """Wait for blocks to write to, after giving back those that are done with."""
        if stream.steps:
            self._send(stream)
        self._outgoing.await_lease(stream)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the writer is closed")

    # -- what the history reads ---------------------------------------------------------------------------------------

    def column_steps(self, column: int) -> range:
        """Numbers of the steps that are kept of a column."""
        stream = self._stream
        if stream is None:
            return range(0)
        return range(max(stream.start, stream.steps - self._column_keeps[column]), stream.steps)

    def column_spec(self, column: int) -> ColumnSpec:
        """What the column is."""
        return self._layout.columns[column]

    def read_column(self, column: int, steps: Sequence[int]) -> Array:
        """A copy of those steps of a column."""
        with self._lock:
            stream = self._stream
            if stream is None:
                raise ValueError("the writer is closed")
            self._book.check_part(stream, TrajectoryColumn(self, column, tuple(steps)))
            return stream.arrays[column][stream.rows(steps)]
