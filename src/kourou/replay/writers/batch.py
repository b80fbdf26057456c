"""The writer for vectorised environments: a step of all of them at once, and items of as many as one likes."""

from __future__ import annotations

from typing import Any

from kourou.replay.arrays.array_types import Array, Integers, Keys, np
from kourou.replay.arrays.dtypes import as_array, can_take, widened
from kourou.replay.arrays.tree import TreeDef, flatten, path_text
from kourou.replay.protocol.remote import Remote
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.writers.base import LONGEST_BLOCK, ItemWriter, Renew
from kourou.replay.writers.flusher import flusher
from kourou.replay.writers.history import ColumnHistory
from kourou.replay.writers.outbox import Outbox
from kourou.replay.writers.stream import BatchStream


class BatchWriter(ItemWriter[BatchStream]):
    """Writes the steps of B environments that go in step, one trajectory for each. Also a context manager.

    The loop of an actor::

        with client.batch_writer(num_environments=B, num_keep_alive_refs=N) as writer:
            while acting:
                writer.append({"observation": observation, "action": action, ...})  # arrays [B, ...]
                history = writer.history
                writer.create_items("t", 1.0, {"observation": history["observation"][-N:], ...})
                writer.end_episodes(terminated | truncated)

    No item reaches over the end of an episode: environments whose present one has not yet as many steps as the item
    has are left out.

    Args:
        renew: gives sessions with the server.
        num_environments: B.
        num_keep_alive_refs: steps that are kept: items may be made of them.
        max_in_flight_items: items that the server may not have confirmed; a writer that is further ahead waits.

    Raises:
        ValueError: an argument below 1.
    """

    def __init__(
        self, renew: Renew, num_environments: int, num_keep_alive_refs: int, *, max_in_flight_items: int = 4096
    ) -> None:
        if num_environments < 1 or num_keep_alive_refs < 1:
            raise ValueError(
                f"num_environments={num_environments}, num_keep_alive_refs={num_keep_alive_refs}: at least 1 each"
            )
        super().__init__(renew, max_in_flight_items)
        self._width = num_environments
        self._keep = num_keep_alive_refs
        self._structure: TreeDef | None = None
        self._columns: tuple[ColumnSpec, ...] = ()
        self._starts: Integers = np.zeros(num_environments, np.int64)  # the first step of each present episode
        self._episodes = self._remote.new_keys(num_environments)  # keys that no item has
        self._patterns: dict[Any, int] = {}

    # -- steps ------------------------------------------------------------------------------------------------------

    def append(self, data: Any) -> None:
        """Add a step of every environment.

        Args:
            data: arrays [B, …], nested in dicts, lists and tuples, each time in the same way.

        Raises:
            ValueError: nested in another way than before, or an array of another shape or dtype.
            TypeError: something that has no dtype of fixed size.
        """
        with self._lock:
            self._check_open()
            structure, leaves = flatten(data)
            arrays = [as_array(leaf, "the step's", path) for path, leaf in zip(structure.paths, leaves, strict=True)]
            if self._structure is None:
                self._learn(structure, arrays)
            self._check(structure, arrays)
            stream = self._again_if_lost(self._ready_stream)
            rows = stream.begin_step()
            for column, array in zip(stream.arrays, arrays, strict=True):
                column[rows] = array

    def end_episodes(self, ended: Any = None) -> None:
        """The next step of some environments begins an episode.

        Args:
            ended: bool [B]; all by default.
        """
        with self._lock:
            mask = np.ones(self._width, np.bool_) if ended is None else np.asarray(ended, np.bool_)
            if mask.shape != (self._width,):
                raise ValueError(f"for {self._width} environments, ended has the shape {mask.shape}")
            self._episodes[mask] = self._remote.new_keys(int(np.count_nonzero(mask)))
            if self._stream is not None:
                self._starts[mask] = self._stream.steps

    @property
    def episode_steps(self) -> Integers:
        """Steps [B] since the episode of each environment began."""
        steps: Integers = (0 if self._stream is None else self._stream.steps) - self._starts
        return steps

    @property
    def history(self) -> Any:
        """The steps that are kept, nested like a step: ``history["obs"][-1]``, ``history["obs"][-3:]``.

        It stands for each environment's: a part of it has the shape that the array has in one item. Its ``numpy()``
        has all environments, [steps, B, …].

        Raises:
            RuntimeError: nothing was appended yet.
        """
        return super().history

    # -- items ------------------------------------------------------------------------------------------------------

    def create_items(self, table: str, priorities: Any, trajectory: Any, environments: Any = None) -> Keys:
        """Make an item of each environment whose episode has all the steps that are asked for.

        Args:
            table: its name.
            priorities: one for all, or [B].
            trajectory: parts of the history, nested in any way.
            environments: bool [B]; which of them. All by default.

        Returns:
            keys [B]; 0 where no item was made.

        Raises:
            TableNotFound: there is no such table.
            TypeError: something in the trajectory is no part of a history.
            ValueError: a priority that the table does not take, or a step that is not kept any more.
            SignatureError: the items do not look as the table's signature says.
        """
        with self._lock:
            return self._again_if_lost(lambda: self._create_items(table, priorities, trajectory, environments))

    def _create_items(self, table: str, priorities: Any, trajectory: Any, environments: Any) -> Keys:
        stream = self._stream
        if stream is None:
            self._check_open()
            raise ValueError("there are no steps to make items of")
        base, key = self._registry.describe(stream, trajectory)
        wanted = np.ones(self._width, np.bool_) if environments is None else np.asarray(environments, np.bool_)
        weights = np.broadcast_to(np.asarray(priorities, np.float64), (self._width,))
        if wanted.shape != (self._width,):
            raise ValueError(f"for {self._width} environments, environments has the shape {wanted.shape}")
        chosen = np.flatnonzero(wanted & (self._starts <= base))
        keys: Keys = np.zeros(self._width, np.uint64)
        if not len(chosen):
            return keys
        lowest = weights[chosen].min()  # NaN if one of them is
        items = self._outbox.check(table, float(lowest))
        self._before_item(stream)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._patterns[key] = self._registry.register(stream, base, trajectory)
        if pattern not in items.checked:
            self._registry.check_signature(table, trajectory)
            items.checked.add(pattern)
        blocks, offset = stream.place(base)
        refs = [(pattern, block, offset) for block in blocks[chosen].tolist()]
        first = self._outbox.add_many(items, weights[chosen].tolist(), refs, self._episodes[chosen].tolist())
        keys[chosen] = np.arange(first, first + len(chosen), dtype=np.uint64)
        flusher.wake()
        return keys

    # -- streams ----------------------------------------------------------------------------------------------------

    def _learn(self, structure: TreeDef, arrays: list[Array]) -> None:
        """Take the first step as what all steps look like."""
        for path, array in zip(structure.paths, arrays, strict=True):
            if array.shape[:1] != (self._width,):
                raise ValueError(
                    f"the step's{path_text(path)} has the shape {array.shape}: not one entry for each of "
                    f"{self._width} environments"
                )
        if not arrays:
            raise ValueError("a step has at least one array")
        self._columns = tuple(
            ColumnSpec(path, array.dtype, array.shape[1:]) for path, array in zip(structure.paths, arrays, strict=True)
        )
        self._structure = structure
        self._history = structure.unflatten([ColumnHistory(self, column) for column in range(len(arrays))])

    def _check(self, structure: TreeDef, arrays: list[Array]) -> None:
        if structure != self._structure:
            raise ValueError("the step is nested in another way than those before it")
        for spec, array in zip(self._columns, arrays, strict=True):
            if not can_take(spec.dtype, array.dtype) or array.shape != (self._width, *spec.shape):
                longer = " (give the first step texts as long as any)" if widened(spec.dtype, array.dtype) else ""
                raise ValueError(
                    f"column{path_text(spec.path)}: got {array.dtype} of {array.shape} but expected {spec.dtype} of "
                    f"{(self._width, *spec.shape)}{longer}"
                )

    def _ready_stream(self) -> BatchStream:
        """The stream, with room for a step."""
        if self._stream is None:
            self._stream = self._new_stream(self._remote, 0)
        if self._stream.needs_block:
            self._await_lease(self._stream)
        return self._stream

    def _new_stream(self, remote: Remote, first: int) -> BatchStream:
        length = min(self._keep, LONGEST_BLOCK)
        return BatchStream(remote, self._columns, length, self._keep, first, self._width)

    def _move(self, remote: Remote, outbox: Outbox) -> None:
        old = self._stream
        if old is None:
            return
        kept = self._readable(old, remote)
        stream = self._new_stream(remote, kept.start)
        for step in kept:
            if stream.needs_block:
                self._await_lease(stream, outbox)
            stream.copy_step(old, step)
        self._patterns.clear()
        self._stream = stream

    # -- what the history reads ---------------------------------------------------------------------------------------

    def column_spec(self, column: int) -> ColumnSpec:
        """What the column is."""
        return self._columns[column]
