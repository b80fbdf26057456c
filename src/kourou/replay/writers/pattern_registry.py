"""How a writer's items are made of its steps."""

from __future__ import annotations

from typing import Any

from kourou.replay.arrays.tree import flatten, path_text
from kourou.replay.protocol.remote import Remote
from kourou.replay.storage.layout import Leaf, Pattern
from kourou.replay.writers.history import StepSource, TrajectoryColumn
from kourou.replay.writers.stream import Stream


class PatternRegistry:
    """Checks and describes trajectories."""

    def __init__(self, source: StepSource, remote: Remote) -> None:
        self._source = source
        self._remote = remote

    def describe(self, stream: Stream, trajectory: Any) -> tuple[int, Any]:
        """The first step of an item, and what tells items of different patterns apart.

        Raises:
            TypeError: something in the trajectory is no part of a history.
            ValueError: see ``check_part``.
        """
        structure, parts = flatten(trajectory)
        for path, part in zip(structure.paths, parts, strict=True):
            if not isinstance(part, TrajectoryColumn):
                raise TypeError(
                    f"the trajectory's{path_text(path)} is a {type(part).__name__}, no part of the writer's history"
                )
            self.check_part(stream, part)
        if not parts:
            raise ValueError("an item has at least one array")
        base = min(min(part.rows) for part in parts)
        key = tuple((part.column, tuple(row - base for row in part.rows), part.squeeze) for part in parts)
        return base, (structure, key)

    def check_part(self, stream: Stream, part: TrajectoryColumn) -> None:
        """See that an array of an item can be made of these steps.

        Raises:
            ValueError: they are another writer's, or none, or not kept any more, or lack the column.
        """
        rows = part.rows
        if part.source is not self._source:
            raise ValueError("a part of another writer's history")
        if not rows:
            raise ValueError("an array of an item has at least one step")
        kept = self._source.column_steps(part.column)
        if min(rows) < kept.start:
            raise ValueError(f"a step that is not kept any more: only {len(kept)} are")
        if stream.missing and any(part.column in stream.missing.get(row, ()) for row in rows):
            raise ValueError(f"a step that lacks{path_text(stream.columns[part.column].path)}")

    def register(self, stream: Stream, base: int, trajectory: Any) -> int:
        """The number of the pattern of a trajectory that begins with the step ``base``."""
        structure, parts = flatten(trajectory)
        leaves = []
        for part in parts:
            rows: range | tuple[int, ...] = tuple(row - base for row in part.rows)
            first = rows[0]
            step = rows[1] - first if len(rows) > 1 else 1
            regular = range(first, first + step * len(rows), step) if step else range(0)
            leaves.append(Leaf(part.column, regular if tuple(regular) == rows else rows, part.squeeze))
        return self._remote.register(Pattern(stream.store, structure, tuple(leaves)))

    def check_signature(self, table: str, trajectory: Any) -> None:
        """Compare a trajectory with the signature of a table.

        Raises:
            SignatureError: names the path that differs, and how.
        """
        signature = self._remote.table_spec(table).signature
        if signature is not None:
            structure, parts = flatten(trajectory)
            signature.check(structure, [(part.dtype, part.shape) for part in parts], f"table {table}")
