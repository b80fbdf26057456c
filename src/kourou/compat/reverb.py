"""Reverb's names, without TensorFlow's: data sets of ``tf.data`` and clients of a graph are not there."""

from __future__ import annotations

import dataclasses
import functools
import operator
import secrets
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from kourou import nested, replay
from kourou.arguments import also_named, warn_ignored
from kourou.compat import reverb_structured
from kourou.compat.targets import target_of
from kourou.errors import DeadlineExceeded as DeadlineExceededError, KourouError as ReverbError, SignatureError
from kourou.replay import (
    Checkpointer as CheckpointerBase,
    Extension as TableExtensionBase,
    ReplaySample,
    rate_limiters,
    selectors,
)
from kourou.replay.arrays.array_types import np
from kourou.replay.arrays.signature import Signature
from kourou.replay.arrays.tree import TreeDef
from kourou.replay.writers.history import TrajectoryColumn

__all__ = [
    "CheckpointerBase",
    "Client",
    "DeadlineExceededError",
    "ReplaySample",
    "ReverbError",
    "SampleInfo",
    "Server",
    "Table",
    "TableExtensionBase",
    "TableInfo",
    "TrajectoryColumn",
    "TrajectoryWriter",
    "Writer",
    "rate_limiters",
    "selectors",
]

_CHECKPOINTERS = "CheckpointerBase DefaultCheckpointer TempDirCheckpointer default_checkpointer"
BELOW: Mapping[str, str | ModuleType] = {
    "checkpointers": _CHECKPOINTERS,
    "client": "Client Writer",
    "errors": "DeadlineExceededError ReverbError",
    "item_selectors": selectors,
    "pattern_dataset": "PatternDataset",
    "platform.checkpointers_lib": _CHECKPOINTERS,
    "platform.default.checkpointers": _CHECKPOINTERS,
    "rate_limiters": rate_limiters,
    "replay_sample": "ReplaySample SampleInfo",
    "reverb_types": "TableInfo",
    "selectors": selectors,
    "server": "Server Table TableExtensionBase",
    "structured": reverb_structured,
    "structured_writer": reverb_structured,
    "tf_client": "TFClient",
    "timestep_dataset": "ReplayDataset TimestepDataset",
    "trajectory_dataset": "TrajectoryDataset",
    "trajectory_writer": "TrajectoryColumn TrajectoryWriter",
}
_DATASETS = (
    "kourou has no tf.data: use kourou.replay.dataset.ReplayDataset(client, table, batch_size) with PyTorch, or the "
    "arrays of kourou.replay.Client.sampler(table, batch_size)"
)
ABSENT = {
    **dict.fromkeys(("PatternDataset", "ReplayDataset", "TimestepDataset", "TrajectoryDataset"), _DATASETS),
    "TFClient": "kourou has no TensorFlow graphs: reverb.Client has the same methods",
}


class SampleInfo(NamedTuple):
    """What is known of a sampled item."""

    key: int
    probability: float
    table_size: int
    priority: float
    times_sampled: int

    @classmethod
    def zeros(cls) -> SampleInfo:
        """One of an item that is not there."""
        return cls(0, 0.0, 0, 0.0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableInfo(replay.TableInfo):
    """What a table says of itself, with what Reverb has in ``rate_limiter_info``."""

    @classmethod
    def of(cls, info: replay.TableInfo) -> TableInfo:
        """The same, with Reverb's names."""
        return cls(**{field.name: getattr(info, field.name) for field in dataclasses.fields(info)})

    @property
    def rate_limiter_info(self) -> Any:
        """The limiter's numbers, and what it has let through."""
        return types.SimpleNamespace(
            **dataclasses.asdict(self.rate_limiter),
            insert_stats=types.SimpleNamespace(completed=self.inserts),
            sample_stats=types.SimpleNamespace(completed=self.samples),
        )


class EitherSignature(Signature):
    """Of whole trajectories, or of their steps. Where it is nested in another way, the order of the arrays counts."""

    def check(self, structure: TreeDef, kinds: list[tuple[np.dtype[Any], tuple[int, ...]]], what: str) -> None:
        if len(kinds) == len(self.specs) and set(structure.paths) != set(self.structure.paths):
            structure = self.structure
        try:
            super().check(structure, kinds, what)
        except SignatureError as of_the_whole:
            try:
                super().check(structure, [(dtype, shape[1:]) for dtype, shape in kinds], what)
            except SignatureError:
                raise of_the_whole from None


class Table(replay.Table):
    """A table whose signature may be that of a step."""

    def __init__(
        self,
        name: str,
        sampler: selectors.Selector,
        remover: selectors.Selector,
        max_size: int,
        rate_limiter: rate_limiters.RateLimiter,
        max_times_sampled: int = 0,
        extensions: Sequence[TableExtensionBase] = (),
        signature: Any = None,
        **more: Any,
    ) -> None:
        if signature is not None:
            whole = Signature.of(signature)
            signature = EitherSignature(whole.structure, whole.specs)
        super().__init__(
            name, sampler, remover, max_size, rate_limiter, max_times_sampled, extensions, signature, **more
        )

    @property
    def info(self) -> TableInfo:
        """The table as it is now."""
        return TableInfo.of(super().info)


def DefaultCheckpointer(path: str, group: str = "", fallback_checkpoint_path: str | None = None) -> CheckpointerBase:  # noqa: N802 - Reverb's
    """Checkpoints in a folder."""
    warn_ignored(group=bool(group))
    return CheckpointerBase(path, fallback_path=fallback_checkpoint_path)


def TempDirCheckpointer() -> CheckpointerBase:  # noqa: N802 - Reverb's
    """Checkpoints in a folder for temporary files."""
    return CheckpointerBase(Path(tempfile.gettempdir(), f"reverb-{secrets.token_hex(8)}"))  # made with the first one


def default_checkpointer() -> CheckpointerBase:
    """What a server without a checkpointer uses."""
    return TempDirCheckpointer()


class Server(replay.Server):
    """A server that writes checkpoints, whether or not it was told where."""

    def __init__(
        self,
        tables: Sequence[replay.Table] | None = None,
        port: int | None = None,
        checkpointer: CheckpointerBase | None = None,
    ) -> None:
        super().__init__(tables or (), port, checkpointer or default_checkpointer())

    def localhost_client(self) -> Client:
        """A client of this server."""
        return Client(self.address)


class TrajectoryWriter(replay.TrajectoryWriter):
    """A writer whose time-outs are in milliseconds."""

    def flush(self, block_until_num_items: int = 0, timeout_ms: int | None = None, **more: Any) -> None:
        """Wait until the server has all but so many items."""
        super().flush(block_until_num_items, **more or {"timeout_ms": timeout_ms})

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None, **more: Any) -> None:  # noqa: FBT001, FBT002 - Reverb's
        """Flush, and begin another episode."""
        super().end_episode(clear_buffers, **more or {"timeout_ms": timeout_ms})


class Writer:
    """Reverb's older writer: items are the last steps, whole."""

    def __init__(self, writer: replay.TrajectoryWriter) -> None:
        self._writer = writer

    def __enter__(self) -> Writer:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def append(self, data: Any) -> None:
        """Add a step."""
        self._writer.append(data)

    def append_sequence(self, sequence: Any) -> None:
        """Add steps, which are stacked along the first axis."""
        for step in range(len(_flat(sequence)[0])):
            self._writer.append(nested.map_leaves(operator.itemgetter(step), sequence))

    def create_item(self, table: str, num_timesteps: int, priority: float) -> None:
        """Make an item of the last steps.

        Raises:
            ValueError: there are not so many.
        """
        if not 1 <= num_timesteps <= self._writer.episode_steps:
            raise ValueError(f"num_timesteps is from 1 to the {self._writer.episode_steps} steps, not {num_timesteps}")
        trajectory = nested.map_leaves(lambda column: column[-num_timesteps:], self._writer.history)
        self._writer.create_item(table, priority, trajectory)

    def flush(self) -> None:
        """Wait until the server has all items."""
        self._writer.flush()

    def close(self, retry_on_unavailable: bool = True) -> None:  # noqa: FBT001, FBT002 - Reverb's
        """Flush, and let go of the server."""
        del retry_on_unavailable
        self._writer.__exit__(None, None, None)


class Client(replay.Client):
    """A client with Reverb's signatures."""

    def __init__(self, server_address: Any) -> None:
        super().__init__(target_of(server_address))

    def __reduce__(self) -> tuple[Any, ...]:
        return Client, (self._arguments["target"],)

    def insert(self, data: Any, priorities: Mapping[str, float]) -> None:  # type: ignore[override]
        """Insert an item of one step.

        Raises:
            ValueError: there are no priorities.
        """
        if not priorities:
            raise ValueError("priorities must contain at least one item")
        with self.writer(1) as writer:
            writer.append(data)
            for table, priority in priorities.items():
                writer.create_item(table, 1, priority)

    def writer(
        self,
        max_sequence_length: int,
        delta_encoded: bool = False,  # noqa: FBT001, FBT002 - Reverb's
        chunk_length: int | None = None,
        max_in_flight_items: int | None = 25,
    ) -> Writer:
        """An older writer. How data is packed is kourou's business."""
        del delta_encoded, chunk_length
        return Writer(super().trajectory_writer(max_sequence_length, max_in_flight_items=max_in_flight_items or 10**6))

    @also_named(timeout="timeout_s")
    def server_info(self, timeout_s: float | None = None) -> dict[str, Any]:
        """All tables as they are now."""
        return {name: TableInfo.of(info) for name, info in super().server_info(timeout_s).items()}

    def trajectory_writer(
        self, num_keep_alive_refs: int, *, validate_items: bool = True, **options: Any
    ) -> TrajectoryWriter:
        """A writer of steps, and of items made of them."""
        warn_ignored(validate_items=not validate_items)
        return TrajectoryWriter(self._renewed, num_keep_alive_refs, **options)

    def sample(  # type: ignore[override]
        self, table: str, num_samples: int = 1, *, emit_timesteps: bool = True, unpack_as_table_signature: bool = False
    ) -> Iterator[Any]:
        """Draw items: each a list of steps, or one sample of the whole.

        Raises:
            ValueError: steps are wanted of an item whose arrays differ in length.
        """
        for _ in range(num_samples):
            sample = next(super().sample(table))
            info: Any = SampleInfo(*sample.info[:5])
            leaves = [np.asarray(leaf) for leaf in _flat(sample.data)]
            signature = self._session().table_spec(table).signature if unpack_as_table_signature else None
            shape = list if signature is None else functools.partial(_nested_as, signature.structure)
            if not emit_timesteps:
                yield ReplaySample(info, shape(leaves))
                continue
            if len({leaf.shape[:1] for leaf in leaves}) != 1 or not leaves[0].ndim:
                raise ValueError("Can't split non timestep trajectory into timesteps.")
            yield [ReplaySample(info, shape([np.asarray(leaf[at]) for leaf in leaves])) for at in range(len(leaves[0]))]


def _flat(data: Any) -> list[Any]:
    """The arrays of nested data, dicts by their sorted keys, as Reverb has them."""
    parts = nested.parts_of(data)
    if parts is None:
        return [data]
    values = parts.values
    if parts.form.name == "dict":
        values = [value for _, value in sorted(zip(parts.names, values, strict=True), key=lambda pair: str(pair[0]))]
    return [leaf for value in values for leaf in _flat(value)]


def _nested_as(structure: TreeDef, leaves: Sequence[Any]) -> Any:
    """The other way round."""
    places = structure.unflatten(range(len(leaves)))
    return nested.map_leaves(dict(zip(_flat(places), leaves, strict=True)).__getitem__, places)
