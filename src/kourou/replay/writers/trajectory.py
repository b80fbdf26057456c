"""The writer: steps as they come, and items made of those that it still knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kourou.arguments import also_named
from kourou.replay.arrays.array_types import Array, np
from kourou.replay.arrays.tree import Path
from kourou.replay.protocol.remote import Remote
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.writers.base import LONGEST_BLOCK, LOST, ItemWriter, Renew
from kourou.replay.writers.flusher import flusher
from kourou.replay.writers.history import ColumnHistory, TrajectoryColumn
from kourou.replay.writers.outbox import Outbox
from kourou.replay.writers.step_layout import StepLayout
from kourou.replay.writers.stream import Stream


class TrajectoryWriter(ItemWriter[Stream]):
    """Writes the steps of one stream (an environment), and items made of them. Also a context manager, which flushes.

    Items are sent in batches, soon after they were made; ``flush`` waits until the server has them. A writer that is
    ahead of its server by ``max_in_flight_items`` waits for it, in ``create_item`` or ``append``.

    Args:
        renew: gives sessions with the server.
        num_keep_alive_refs: steps that are kept: items may be made of them.
        max_in_flight_items: items that the server may not have confirmed.

    Raises:
        ValueError: an argument below 1.
    """

    def __init__(self, renew: Renew, num_keep_alive_refs: int, *, max_in_flight_items: int = 4096) -> None:
        if num_keep_alive_refs < 1:
            raise ValueError(f"num_keep_alive_refs is at least 1, not {num_keep_alive_refs}")
        super().__init__(renew, max_in_flight_items)
        self._keep = num_keep_alive_refs
        self._block_length: int | None = None
        self._keeps: dict[Path, int] = {}
        self._column_keeps: list[int] = []
        self._layout = StepLayout()
        self._patterns: dict[Any, int] = {}
        self._open_row: int | None = None  # of a step that is not complete
        self._open_missing: set[int] = set()
        self.episode_steps = 0
        """Complete steps since the episode began."""
        self._episode = self._remote.take_keys(1)  # its number: a key that no item has

    # -- steps ------------------------------------------------------------------------------------------------------

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """Add a step, or the rest of one that was begun with ``partial_step``.

        Args:
            data: arrays, nested in dicts, lists, tuples, dataclasses and the like. Dicts may have other keys than
                before. A step lacks what it was not given, or was given None for.
            partial_step: more of this step comes with the next ``append``.

        Raises:
            ValueError: a dtype or shape differs from earlier steps (texts may have any length), or a field was in this
                open step before, or something would not arrive as it is, such as a masked array.
            TypeError: something that has no dtype of fixed size, such as an object.
        """
        with self._lock:
            try:
                self._append(data, partial_step=partial_step)
            except LOST as error:
                self._again(lambda: self._append(data, partial_step=partial_step), error)

    def _append(self, data: Any, *, partial_step: bool) -> None:
        stream = self._stream
        row = self._open_row
        flat = self._layout.flat
        if stream is None or row is not None or partial_step or flat is None or data.__class__ is not dict:
            self._append_slowly(data, partial_step=partial_step)
            return
        if not stream.left and not stream.leased:
            self._await_lease(stream)
        columns = stream.columns
        if len(data) != len(flat) or columns is not self._layout.columns:
            self._append_slowly(data, partial_step=False)
            return
        placed = []
        for key, value in data.items():
            column = flat.get(key)
            if column is None or value.__class__ is not np.ndarray:
                self._append_slowly(data, partial_step=False)
                return
            spec = columns[column]
            if value.dtype != spec.dtype or value.shape != spec.shape:
                self._append_slowly(data, partial_step=False)  # which says what is wrong, if anything is
                return
            placed.append((column, value))
        row = stream.begin_step()
        arrays, files = stream.arrays, stream.files
        for column, value in placed:
            file = files[column]
            if file is not None and value.flags.c_contiguous:
                file.write(row, value)
            else:
                arrays[column][row] = value
        self.episode_steps += 1

    def _append_slowly(self, data: Any, *, partial_step: bool) -> None:
        self._check_open()
        stream = self._stream
        filled = set(range(len(stream.columns))) - self._open_missing if stream and self._open_row is not None else ()
        values = self._layout.match(data, filled)
        if stream is None or stream.columns is not self._layout.columns:
            stream = self._change_layout()
        self._write(stream, values, partial_step=partial_step)

    def _write(self, stream: Stream, values: Sequence[tuple[int, Array]], *, partial_step: bool) -> None:
        """Write a step, or a part of one, that may lack columns."""
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
            self.episode_steps += 1

    def _change_layout(self) -> Stream:
        """Go on with other columns, or more room, in another stream. Steps that are kept are copied there."""
        old = self._stream
        if old is None:
            stream = self._new_stream(self._remote, 0)
            self._go_on(stream, None)
            return stream
        self._send(old)
        stream, row = self._copied(old, range(old.oldest, old.steps), self._remote, self._outbox)
        self._go_on(stream, row)
        old.end()
        self._send(old)
        return stream

    def _move(self, remote: Remote, outbox: Outbox) -> None:
        old = self._stream
        if old is None:
            return
        self._go_on(*self._copied(old, self._readable(old, remote), remote, outbox))

    def _new_stream(self, remote: Remote, first: int) -> Stream:
        keep = max([self._keep, *self._keeps.values()])
        length = self._block_length or min(keep, LONGEST_BLOCK)
        return Stream(remote, self._layout.columns, length, keep, first)

    def _copied(self, old: Stream, kept: range, remote: Remote, outbox: Outbox) -> tuple[Stream, int | None]:
        """A stream of all columns with some steps of the old one, and the row of the last of them."""
        stream = self._new_stream(remote, kept.start)
        added = set(range(len(old.columns), len(stream.columns)))
        row = None
        for step in kept:
            if stream.needs_block:
                self._await_lease(stream, outbox)
            row = stream.copy_step(old, step)
            missing = old.missing.get(step, set()) | added
            if missing:
                stream.missing[step] = missing
        return stream, row

    def _go_on(self, stream: Stream, last_row: int | None) -> None:
        """Continue there; an open step is in ``last_row``."""
        old, columns = self._stream, self._layout.columns
        if self._open_row is not None and old is not None:
            self._open_row = last_row
            self._open_missing |= set(range(len(old.columns), len(columns)))
        self._column_keeps = [self._keeps.get(spec.path, self._keep) for spec in columns]
        self._history = self._layout.nested([ColumnHistory(self, column) for column in range(len(columns))])
        self._patterns.clear()
        self._stream = stream

    # -- items ------------------------------------------------------------------------------------------------------

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
            try:
                return self._create_item(table, priority, trajectory)
            except LOST as error:
                return self._again(lambda: self._create_item(table, priority, trajectory), error)

    def _create_item(self, table: str, priority: float, trajectory: Any) -> int:
        outbox = self._outbox
        items = outbox.tables.get(table)
        if items is None or not priority >= 0:
            items = outbox.check(table, priority)
        stream = self._stream
        if stream is None:
            self._check_open()
            raise ValueError("there are no steps to make an item of")
        if not outbox.pending or outbox.pending >= stream.batch_items:
            self._before_item(stream)
        if trajectory.__class__ is dict and len(trajectory) == 1:
            ((name, part),) = trajectory.items()
            if part.__class__ is TrajectoryColumn and part.rows.__class__ is range:
                rows = part.rows
                key: Any = name, part.column, len(rows), rows.step
                base = rows.start
                oldest = max(stream.start, stream.steps - self._column_keeps[part.column])
                if part.source is not self or not rows or rows.step < 0 or base < oldest or stream.missing:
                    self._registry.check_part(stream, part)
                    base = min(rows)
            else:
                base, key = self._registry.describe(stream, trajectory)
        else:
            base, key = self._registry.describe(stream, trajectory)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._patterns[key] = self._registry.register(stream, base, trajectory)
        if pattern not in items.checked:
            self._registry.check_signature(table, trajectory)
            items.checked.add(pattern)
        made = outbox.add(items, float(priority), (pattern, *stream.place(base)), self._episode)
        if outbox.pending == 1:
            flusher.wake()
        return made

    # -- sending ----------------------------------------------------------------------------------------------------

    @also_named(timeout_ms="timeout_s")
    def end_episode(self, clear_buffers: bool = True, *, timeout_s: float | None = None) -> None:  # noqa: FBT001, FBT002 - as in Reverb
        """Flush, then begin a new episode.

        Args:
            clear_buffers: forget the history, so that no item reaches over the end of the episode.
            timeout_s: as for ``flush``.

        Raises:
            DeadlineExceeded: the items did not all arrive in time. The new episode has begun nevertheless.
        """
        with self._lock:
            try:
                self.flush(timeout_s=timeout_s)
            finally:
                self._open_row = None
                self.episode_steps = 0
                self._episode = self._remote.take_keys(1)
                if clear_buffers and self._stream is not None:
                    self._stream.clear()
                    self._history_start = self._stream.steps

    def configure(self, path: Path, *, num_keep_alive_refs: int, max_chunk_length: int | None = None) -> None:
        """Keep another number of steps of one column.

        Steps that were appended before stay as far as they are still kept.

        Args:
            path: of the column: keys and indices, from the outside in. It need not exist yet.
            num_keep_alive_refs: steps to keep of it.
            max_chunk_length: rows of a block, for all columns; None chooses.

        Raises:
            ValueError: a number below 1, or blocks of more rows than are kept.
        """
        if not 1 <= (1 if max_chunk_length is None else max_chunk_length) <= num_keep_alive_refs:
            raise ValueError(
                f"num_keep_alive_refs={num_keep_alive_refs}, max_chunk_length={max_chunk_length}: both are at least 1, "
                "and no chunk is longer than what is kept"
            )
        with self._lock:
            self._keeps[tuple(path)] = num_keep_alive_refs
            if max_chunk_length is not None:
                self._block_length = min(max_chunk_length, self._block_length or max_chunk_length)
            if self._stream is not None:
                self._again_if_lost(self._change_layout)

    def _finished(self, stream: Stream) -> int:
        return stream.steps if self._open_row is None else stream.steps - 1

    # -- what a structured writer asks ---------------------------------------------------------------------------------

    def append_nothing(self) -> None:
        """Add a step that lacks every column. As long as there are no columns, there is no need to."""
        with self._lock:
            self._again_if_lost(self._append_nothing)

    def _append_nothing(self) -> None:
        self._check_open()
        if self._stream is not None:
            self._write(self._stream, (), partial_step=False)

    def column_at(self, path: Path) -> int | None:
        """The column at a path; None when there is none yet."""
        return self._layout.column(path)

    def lacks(self, column: int, steps: range) -> bool:
        """Whether one of these steps, which are kept, was given nothing for a column."""
        missing = {} if self._stream is None else self._stream.missing
        return bool(missing) and any(column in missing.get(step, ()) for step in steps)

    # -- what the history and a structured writer read --------------------------------------------------------------

    def column_steps(self, column: int) -> range:
        """Numbers of the steps that are kept of a column."""
        stream = self._stream
        if stream is None:
            return range(0)
        return range(max(stream.start, stream.steps - self._column_keeps[column]), stream.steps)

    def column_spec(self, column: int) -> ColumnSpec:
        """What the column is."""
        return self._layout.columns[column]
