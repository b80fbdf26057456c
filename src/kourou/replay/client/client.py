"""The client: what other processes do with a replay server."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kourou import courier
from kourou.arguments import also_named, warn_ignored
from kourou.closing import ClosedAtExit
from kourou.errors import ServerUnavailable, WriterExpired
from kourou.replay.arrays.array_types import Array, Keys, np
from kourou.replay.arrays.dtypes import as_array
from kourou.replay.arrays.tree import flatten
from kourou.replay.client.batch_inserter import BatchInserter
from kourou.replay.client.sampler import Sampler
from kourou.replay.protocol.remote import RENEWALS, Remote
from kourou.replay.protocol.samples import ReplaySample, SampleBatch
from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.storage.compression import Compression
from kourou.replay.table.info import TableInfo
from kourou.replay.writers.batch import BatchWriter
from kourou.replay.writers.rules import ItemRule
from kourou.replay.writers.structured import StructuredWriter
from kourou.replay.writers.trajectory import TrajectoryWriter
from kourou.shown import shown
from kourou.waits import Blocked, waits_in

T = TypeVar("T")

_GRACE_S = 10.0  # what a call may take beyond the time that it waits for a limiter: the connection, and the data


class Client(ClosedAtExit):
    """Inserts into the tables of a server and samples from them. Any number of threads may use it; can be pickled.

    With a ``timeout_s`` of 0 a call tries once, with None it waits.

    Args:
        target: ``host:port`` of the server, or a target of :mod:`kourou.courier`.
        token: the server's secret, when ``target`` is an address; by default the user's own.
        lane: ``inproc``, ``local`` or ``grpc`` to force one; by default the fastest that both ends share. ``grpc``
            does without shared memory, too.
        connect_timeout_s: seconds until ``DeadlineExceeded`` when the server does not answer; None waits for ever.
        compression: for arrays that travel between hosts; ``zstd``, ``lz4``, or a :class:`Compression` that says it by
            column. None, the default, sends them as they are; so does every client that shares memory with its server.
    """

    @also_named(formerly={"connect_timeout": "connect_timeout_s"})
    def __init__(
        self,
        target: str | courier.Target,
        *,
        token: str | None = None,
        lane: str | None = None,
        connect_timeout_s: float | None = 60.0,
        compression: Compression | str | None = None,
    ) -> None:
        if isinstance(compression, str):
            compression = Compression(codec=compression)
        self._arguments: dict[str, Any] = {
            "target": target,
            "token": token,
            "lane": lane,
            "connect_timeout_s": connect_timeout_s,
            "compression": compression,
        }
        self._compression = compression
        self._calls: courier.Client = courier.Client(target, token=token, lane=lane)
        self._connect_timeout_s = connect_timeout_s
        self._remote: Remote | None = None
        self._inserter: BatchInserter | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Client, **self._arguments), ()

    def copy(self) -> Client:
        """Another client of the same server, with a connection of its own."""
        return Client(**self._arguments)

    def __repr__(self) -> str:
        return f"<replay client of {self.server_address}>"

    @property
    def server_address(self) -> str:
        """What it calls."""
        return courier.address(self._calls)

    @property
    def calls(self) -> courier.Client:
        """What its calls go through."""
        return self._calls

    @property
    def lane(self) -> str | None:
        """The lane in use; None before the first call."""
        return courier.lane(self._calls)

    @property
    def shares_memory(self) -> bool:
        """Whether data is read and written in place, in shared memory."""
        return self._session().shares

    def close(self) -> None:
        """Let go of the server. Calls in flight end with ``CallCancelled``."""
        with self._lock:
            if self._remote is not None:
                self._remote.close()
                self._remote = self._inserter = None
        courier.close(self._calls)

    @also_named(formerly={"timeout": "timeout_s"})
    def insert(
        self, data: Any, priorities: Mapping[str, float], timeout_s: float | None = None, *, policy_version: int = -1
    ) -> dict[str, int]:
        """Insert one item into one or several tables, which share its data.

        Args:
            data: arrays, nested in dicts, lists and tuples.
            priorities: by table.
            timeout_s: how long limiters may take.
            policy_version: of the weights that acted; -1 says nothing of them.

        Returns:
            the item's key in each table.

        Raises:
            TableNotFound, SignatureError, ValueError, TypeError: nothing was inserted.
            DeadlineExceeded: a limiter did not let it in in time.
        """
        structure, leaves = flatten(data)
        named = zip(structure.paths, leaves, strict=True)
        batch = structure.unflatten([as_array(leaf, "the data's", path)[None] for path, leaf in named])
        each = {table: [priority] for table, priority in of_tables(priorities).items()}
        keys = self._insert(batch, each, timeout_s, policy_version)
        return {table: int(found[0]) for table, found in keys.items()}

    @also_named(formerly={"timeout": "timeout_s"})
    def insert_batch(
        self,
        table: str,
        data: Any,
        priorities: Sequence[float] | Array | None = None,
        timeout_s: float | None = None,
        *,
        policy_version: int = -1,
    ) -> Keys:
        """Insert n items at once.

        Args:
            table: where.
            data: arrays [n, …], nested in dicts, lists and tuples.
            priorities: [n]; 1.0 by default.
            timeout_s: how long the limiter may take.
            policy_version: of the weights that acted; -1 says nothing of them.

        Returns:
            keys [n].

        Raises:
            TableNotFound, SignatureError, ValueError: nothing was inserted.
            DeadlineExceeded: not all items were let in in time; says how many were, the first of the batch.
        """
        return self._insert(data, {table: priorities}, timeout_s, policy_version)[table]

    @waits_in(lambda here: Blocked(what=f"an insert into {', '.join(map(repr, here['priorities']))}"))
    def _insert(
        self, data: Any, priorities: Mapping[str, Any], timeout_s: float | None, policy_version: int
    ) -> dict[str, Keys]:
        def act(remote: Remote) -> dict[str, Keys]:
            with self._lock:
                if self._inserter is None or self._inserter.remote is not remote:
                    self._inserter = BatchInserter(remote)
                inserter = self._inserter
            return inserter.insert(data, priorities, timeout_s, policy_version)

        return self._with_session(act)

    def trajectory_writer(
        self, num_keep_alive_refs: int, *, validate_items: bool = True, max_in_flight_items: int = 4096
    ) -> TrajectoryWriter:
        """A writer of steps, and of items made of them.

        Args:
            num_keep_alive_refs: steps that items can be made of.
            validate_items: Reverb's; False is ignored, with a warning: items are always checked.
            max_in_flight_items: items that the server may not have confirmed; a writer that is further ahead waits. So
                far an actor runs ahead of a queue that is full, on weights that grow old.
        """
        warn_ignored(validate_items=not validate_items)
        return TrajectoryWriter(self._renewed, num_keep_alive_refs, max_in_flight_items=max_in_flight_items)

    @also_named(configs="rules")
    def structured_writer(self, rules: Sequence[ItemRule], *, max_in_flight_items: int = 4096) -> StructuredWriter:
        """A writer of steps that makes items by rules.

        Args:
            rules: what items to make, and when.
            max_in_flight_items: as for ``trajectory_writer``.
        """
        return StructuredWriter(
            lambda keep: self.trajectory_writer(keep, max_in_flight_items=max_in_flight_items), rules
        )

    def batch_writer(
        self, num_environments: int, num_keep_alive_refs: int, *, max_in_flight_items: int = 4096
    ) -> BatchWriter:
        """A writer of the steps of vectorised environments, and of items made of them.

        Args:
            num_environments: that are stepped together.
            num_keep_alive_refs: steps that items can be made of.
            max_in_flight_items: as for ``trajectory_writer``.
        """
        return BatchWriter(
            self._renewed, num_environments, num_keep_alive_refs, max_in_flight_items=max_in_flight_items
        )

    @also_named(formerly={"timeout": "timeout_s"})
    @waits_in(lambda here: Blocked(what=f"a sample of table {here['table']!r}"))
    def sample_batch(self, table: str, num_samples: int, timeout_s: float | None = None) -> SampleBatch:
        """Draw items.

        Args:
            table: its name.
            num_samples: how many, with replacement.
            timeout_s: how long the limiter may take. Fewer items come when the time is over.

        Raises:
            TableNotFound: there is no such table.
            DeadlineExceeded: there was not one item in time.
        """
        calls = courier.with_options(self._calls, timeout_s=None if timeout_s is None else timeout_s + _GRACE_S)
        return self._with_session(lambda remote: remote.sample(calls, table, num_samples, timeout_s))

    @also_named(formerly={"timeout": "timeout_s"})
    def sampler(
        self,
        table: str,
        batch_size: int,
        *,
        max_in_flight: int | None = None,
        max_samples: int | None = None,
        timeout_s: float | None = None,
    ) -> Sampler:
        """An iterator of batches, drawn ahead.

        Args:
            table: its name.
            batch_size: items of a batch.
            max_in_flight: items on their way, or arrived and not taken; by default those of two batches. 0 draws a
                batch when it is wanted.
            max_samples: items in all, then the iteration ends; no more are drawn.
            timeout_s: how long the limiter may take for a batch; then the iteration ends, after what there was.
        """
        ahead = 2 * batch_size if max_in_flight is None else max_in_flight
        return Sampler(
            self._calls,
            self._renewed,
            table,
            batch_size,
            max_in_flight=ahead,
            max_samples=max_samples,
            timeout_s=timeout_s,
        )

    @also_named(formerly={"timeout": "timeout_s"})
    def sample(self, table: str, num_samples: int = 1, timeout_s: float | None = None) -> Iterator[ReplaySample]:
        """Draw items, one after the other; as ``sample_batch``."""
        yield from self.sample_batch(table, num_samples, timeout_s)

    @also_named(formerly={"timeout": "timeout_s"})
    def mutate_priorities(
        self,
        table: str,
        updates: Mapping[int, float] | tuple[Any, Any] | None = None,
        deletes: Sequence[int] | Array | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Delete items, then change priorities. Keys that are not there are ignored.

        Args:
            table: its name.
            updates: priorities by key, or a pair of arrays: keys [n] and priorities [n].
            deletes: keys.
            timeout_s: for the whole call.

        Returns:
            how many of the keys were there.

        Raises:
            ValueError: a priority that the table does not take; nothing was changed.
            TypeError: neither a dict nor a pair, or keys that are no integers.
        """
        pair = (list(updates), list(updates.values())) if isinstance(updates, Mapping) else updates
        if pair is not None and not (isinstance(pair, tuple) and len(pair) == 2):  # noqa: PLR2004 - a pair
            raise TypeError("updates are priorities by key, {key: priority}, or a pair of arrays, (keys, priorities)")
        keys, priorities = pair or ((), ())
        key_array = _keys(keys)
        priority_array = np.asarray(priorities, np.float64)
        if key_array.shape != priority_array.shape or key_array.ndim != 1:
            raise ValueError(f"keys {key_array.shape} and priorities {priority_array.shape} are not of one length")
        gone = _keys(() if deletes is None else deletes)
        applied: int = self._call(timeout_s).mutate_priorities(table, key_array, priority_array, gone)
        return applied

    def items(self, table: str, offset: int = 0, limit: int = 1000) -> SampleBatch:
        """Look at items, the oldest first, without sampling them.

        Args:
            table: its name.
            offset: how many to skip.
            limit: how many to get, at most.
        """
        return self.get(table, self._call(None).keys(table, offset, limit))

    def get(self, table: str, keys: Sequence[int] | Array) -> SampleBatch:
        """Look at items without sampling them. Keys that are not there are left out."""
        wanted = _keys(keys)
        return self._with_session(lambda remote: remote.read(self._call(None).get(remote.session.name, table, wanted)))

    @also_named(formerly={"timeout": "timeout_s"})
    def reset(self, table: str, timeout_s: float | None = None) -> None:
        """Delete all items of a table, and let its limiter count from 0."""
        self._call(timeout_s).reset(table)

    @also_named(formerly={"timeout": "timeout_s"})
    def checkpoint(self, timeout_s: float | None = None) -> str:
        """Have the server write a checkpoint; its folder, there. A time-out ends the wait, not the writing.

        Raises:
            CheckpointError: the server has no checkpointer, or it failed.
        """
        path: str = courier.with_options(self._calls, timeout_s=timeout_s).checkpoint()
        return path

    @also_named(formerly={"timeout": "timeout_s"})
    def set_rate_limiter(self, table: str, rate_limiter: RateLimiter, timeout_s: float | None = None) -> None:
        """Let a table use another limiter from now on. Whoever may go on does at once."""
        self._call(timeout_s).set_rate_limiter(table, rate_limiter)

    @also_named(timeout="timeout_s")
    def server_info(self, timeout_s: float | None = None) -> dict[str, TableInfo]:
        """All tables as they are now."""
        info: dict[str, TableInfo] = self._call(timeout_s).server_info()
        return info

    def _call(self, timeout_s: float | None) -> courier.Client:
        return courier.with_options(
            self._calls, timeout_s=self._connect_timeout_s if timeout_s is None else max(timeout_s, 1e-3)
        )

    def _session(self) -> Remote:
        remote = self._remote
        if remote is None:
            with self._lock:
                remote = self._remote
                if remote is None:
                    remote = self._remote = Remote(self._calls, self._connect_timeout_s, self._compression)
        return remote

    def _renewed(self, old: Remote | None) -> Remote:
        """A session, another one than the one that has ended."""
        with self._lock:
            if old is not None and self._remote is old:
                self._remote = None
        return self._session()

    def _with_session(self, act: Callable[[Remote], T]) -> T:
        """Do it; again whenever the server turns out to be a new one, in which case nothing was done.

        Raises:
            ServerUnavailable: no server lasted long enough.
        """
        remote = self._session()
        for _ in range(RENEWALS):
            try:
                return act(remote)
            except WriterExpired:
                remote = self._renewed(remote)
        raise ServerUnavailable(f"{self.server_address} has ended {RENEWALS} sessions during this call; see its log")


def of_tables(priorities: Mapping[str, float]) -> Mapping[str, float]:
    """Priorities by table, if that is what they are.

    Raises:
        TypeError: they are something else.
        ValueError: there are none.
    """
    if not isinstance(priorities, Mapping):
        raise TypeError(f"priorities are given by table, such as {{'replay': 1.0}}; got {shown(priorities)}")
    if not priorities:
        raise ValueError("priorities name at least one table")
    return priorities


def _keys(keys: Any) -> Array:
    array = np.asarray(keys)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"keys are integers, not {array.dtype}")
    return array.astype(np.uint64)
