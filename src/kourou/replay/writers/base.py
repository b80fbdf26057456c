"""What writers have in common: a stream of steps, items on their way, and a server that may be restarted."""

from __future__ import annotations

import abc
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, cast

from kourou.arguments import also_named
from kourou.closing import ClosedAtExit
from kourou.errors import ConnectionLost, KourouError, WriterExpired
from kourou.replay.arrays.array_types import Array
from kourou.replay.protocol.remote import RENEWALS, Remote
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.writers.flusher import flusher
from kourou.replay.writers.history import TrajectoryColumn
from kourou.replay.writers.outbox import Outbox
from kourou.replay.writers.pattern_registry import PatternRegistry
from kourou.replay.writers.stream import Stream

_log = logging.getLogger("kourou.replay")

LONGEST_BLOCK = 64  # rows; longer blocks would waste memory on rows that no item needs any more
LOST = (WriterExpired, ConnectionLost)
"""What tells that the server has forgotten the writer: it was restarted, or took the writer for dead."""

Renew: TypeAlias = Callable[[Remote | None], Remote]
"""Gives a session with the server, another one than the one that has ended."""
T = TypeVar("T")
S = TypeVar("S", bound=Stream)


class FlushedAtExit(ClosedAtExit, abc.ABC):
    """At the end of a ``with`` it is flushed, unless its server is at fault for that end, and closed."""

    def __exit__(self, *exc_info: object) -> None:
        try:
            if not isinstance(exc_info[1], KourouError):
                self.flush()
        finally:
            self.close()

    @abc.abstractmethod
    def flush(self, block_until_num_items: int = 0, *, timeout_s: float | None = None) -> None:
        """Send everything, and wait until all but so many items are confirmed."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything. Items that were not flushed may or may not arrive. May be called twice."""


class ItemWriter(FlushedAtExit, Generic[S]):
    """The base of writers. Also a context manager, which flushes.

    A server that was restarted has forgotten the writer. It goes on with a new session, then, and with the steps that
    are kept; items that had not been confirmed are lost, which is logged, and counted in ``lost_items``. So are those
    that were in, or behind, a message that the server could not carry out.

    Args:
        renew: gives sessions with the server.
        max_in_flight_items: items that the server may not have confirmed.
    """

    def __init__(self, renew: Renew, max_in_flight_items: int) -> None:
        if max_in_flight_items < 1:
            raise ValueError(f"max_in_flight_items is at least 1, not {max_in_flight_items}")
        self._renew = renew
        self._max_in_flight_items = max_in_flight_items
        self._remote = renew(None)
        self._stream: S | None = None  # where steps go, from the first one on
        self._outbox = Outbox(self._remote, max_in_flight_items, policy_version=-1)
        self._registry = PatternRegistry(self, self._remote)
        self._history: Any = None
        self._history_start = 0  # number of its first step
        self._closed = False
        self._lock = threading.RLock()
        self._lost_items = 0
        self._sent_before = 0  # messages, when ``send_pending`` last looked
        flusher.watch(self)

    @also_named(timeout_ms="timeout_s")
    def flush(self, block_until_num_items: int = 0, *, timeout_s: float | None = None) -> None:
        """Send everything, and wait until the server has confirmed all but ``block_until_num_items`` items.

        Args:
            block_until_num_items: items that may still be on their way.
            timeout_s: 0 sends and looks once, None waits.

        Raises:
            ValueError: a number below 0.
            DeadlineExceeded: there are more on their way. They will arrive; flush again to wait on.
            Exception: whatever the server said about an item.
        """
        if block_until_num_items < 0:
            raise ValueError(f"block_until_num_items is at least 0, not {block_until_num_items}")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            try:
                stream = self._stream
                if stream is not None:
                    self._send(stream)
                self._outbox.wait(block_until_num_items, deadline)
            except LOST as error:
                self._recover(error)

    @property
    def policy_version(self) -> int:
        """Of the weights that act: items that are made from now on carry it. -1, at first: nobody says."""
        return self._outbox.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        with self._lock:
            stream = self._stream
            if version != self._outbox.policy_version and stream is not None and self._outbox.pending:
                try:
                    self._send(stream)  # items of one message have one version
                except LOST as error:
                    self._recover(error)
            self._outbox.policy_version = int(version)

    @property
    def lost_items(self) -> int:
        """Items that were not confirmed, and never will be. Some of them may have arrived."""
        return self._lost_items + self._outbox.refused

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            flusher.forget(self)
            stream, error = self._stream, self._outbox.pending_error()
            self._stream = None
            if error is not None:
                self._count_lost("was closed without a flush", error)
            elif stream is not None:
                stream.end()
                self._outbox.send(stream, stream.steps)

    @property
    def history(self) -> Any:
        """The steps so far, nested like a step: ``history["obs"][-1]``, ``history["obs"][-3:]``.

        They are counted like a list's, from the first step since the history was cleared; the latest ones are kept.

        Raises:
            RuntimeError: nothing was appended yet.
        """
        if self._history is None:
            raise RuntimeError("history cannot be used before the first step was appended")
        return self._history

    def read_column(self, column: int, steps: Sequence[int]) -> Array:
        """A copy of those steps of a column; for the history."""
        with self._lock:
            stream = self._stream
            if stream is None:
                raise ValueError("the writer is closed")
            self._registry.check_part(stream, TrajectoryColumn(self, column, tuple(steps)))
            return stream.arrays[column][stream.rows(steps)]

    def column_steps(self, column: int) -> range:
        """Numbers of the steps that are kept of a column."""
        del column  # of all of them the same, here
        stream = self._stream
        return range(0) if stream is None else range(stream.oldest, stream.steps)

    def history_steps(self) -> range:
        """Numbers of the steps since the history began; for the history."""
        stream = self._stream
        return range(0) if stream is None else range(self._history_start, stream.steps)

    @abc.abstractmethod
    def column_spec(self, column: int) -> ColumnSpec:
        """What a column is; for the history."""

    def send_pending(self) -> bool:
        """Send what waits, unless the writer's own thread has sent something since the last look.

        For the thread that sends when the writer's own is busy with other things. Whether there was anything.
        """
        if not self._lock.acquire(blocking=False):
            return True
        try:
            stream, outbox = self._stream, self._outbox
            if stream is None or not outbox.pending:
                return False
            if outbox.pending_error() is not None:
                return False  # left to the writer's own thread, which has to hear of that
            if outbox.sent == self._sent_before and outbox.has_room:
                self._send(stream)
            self._sent_before = outbox.sent
            return True
        finally:
            self._lock.release()

    @abc.abstractmethod
    def _move(self, remote: Remote, outbox: Outbox) -> None:
        """Go on with another session: make a stream there, copy the steps that are kept, forget patterns.

        Nothing is changed unless all of it succeeds.
        """

    def _readable(self, old: Stream, remote: Remote) -> range:
        """The kept steps that can be copied from an earlier session's memory to another session.

        The memory of a server that has ended can still be read. One that lives on may have given it to others, unless
        the session is the same.
        """
        is_ours = not old.shared or remote is self._remote or not remote.is_same_server(self._remote)
        return range(old.oldest if is_ours else old.steps, old.steps)

    def _finished(self, stream: Stream) -> int:
        """Steps from this one on are not complete."""
        return stream.steps

    def _send(self, stream: Stream) -> None:
        self._outbox.send(stream, self._finished(stream))

    def _await_lease(self, stream: Stream, outbox: Outbox | None = None) -> None:
        """Wait for blocks to write to, after giving back those that are done with."""
        outbox = outbox or self._outbox
        if stream.steps:
            outbox.send(stream, self._finished(stream))
        outbox.await_lease(stream)

    def _before_item(self, stream: Stream) -> None:
        """Send the items that wait, if they are worth a message; and hear of those that were sent.

        Before an item is made, not after: so one whose making raises was not made.
        """
        outbox = self._outbox
        if outbox.pending >= stream.batch_items:
            outbox.make_room()
            self._send(stream)
        else:
            outbox.collect()

    def _recover(self, error: Exception) -> None:
        """The server has forgotten this writer, or takes no more of this series of messages: begin another one.

        Raises:
            Exception: it cannot be reached again.
        """
        old, session = self._stream, self._remote
        remote = session if self._outbox.is_broken else self._renew(session)
        while True:
            outbox = Outbox(remote, self._max_in_flight_items, self._outbox.policy_version)
            with contextlib.suppress(*LOST):  # it may be restarted again meanwhile
                self._move(remote, outbox)
                break
            remote = self._renew(remote)
        self._count_lost("begins anew", error)
        self._remote, self._outbox, self._registry = remote, outbox, PatternRegistry(self, remote)
        if remote is session and old is not None:  # what the server holds for the old series is not needed any more
            old.end()
            outbox.send(old, old.steps)

    def _count_lost(self, what_now: str, error: BaseException) -> None:
        lost = self._outbox.abandon()
        self._lost_items += lost
        _log.warning("a replay writer %s; %d items on their way were lost (%s)", what_now, lost, str(error))

    def _again_if_lost(self, act: Callable[[], T]) -> T:
        """Do it; again if the server has forgotten this writer, in which case nothing was done."""
        try:
            return act()
        except LOST as error:
            return self._again(act, error)

    def _again(self, act: Callable[[], T], error: Exception) -> T:
        """The server has forgotten this writer: do it with its successor, or the successor of that."""
        for _ in range(RENEWALS):
            self._recover(error)
            try:
                return act()
            except LOST as again:
                error = again
        raise error

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the writer is closed")


P = ParamSpec("P")
W = TypeVar("W", bound="ItemWriter[Any] | WriterGroup[Any]")


def in_turn(method: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """A writer's method, for a group: each does it, up to one that raises."""

    @functools.wraps(method)
    def call(self: WriterGroup[Any], *args: Any, **kwargs: Any) -> None:
        for writer in self.writers:
            getattr(writer, method.__name__)(*args, **kwargs)

    return cast("Callable[Concatenate[Any, P], None]", call)


def whatever_happens(method: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """As :func:`in_turn`, but all do it, within ``timeout_s``, since all have seen the same steps and episodes.

    Raises the first problem.
    """

    @also_named(timeout_ms="timeout_s")
    @functools.wraps(method)
    def call(self: WriterGroup[Any], *args: Any, **kwargs: Any) -> None:
        timeout_s = kwargs.get("timeout_s")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        problem: Exception | None = None
        for writer in self.writers:
            if deadline is not None:
                kwargs["timeout_s"] = max(0.0, deadline - time.monotonic())
            try:
                getattr(writer, method.__name__)(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised below
                problem = problem or error
        if problem is not None:
            raise problem

    return cast("Callable[Concatenate[Any, P], None]", call)


class WriterGroup(FlushedAtExit, Generic[W]):
    """Writers that are used as one. Also a context manager, which flushes.

    Attributes:
        writers: at least one.
    """

    def __init__(self, writers: Iterable[W]) -> None:
        self.writers = list(writers)

    flush = whatever_happens(ItemWriter.flush)  # pyright: ignore[reportAssignmentType]  # its self has no name

    @property
    def policy_version(self) -> int:
        """See :class:`TrajectoryWriter`."""
        return self.writers[0].policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        for writer in self.writers:
            writer.policy_version = version

    @property
    def lost_items(self) -> int:
        """Of all; see :class:`TrajectoryWriter`."""
        return sum(writer.lost_items for writer in self.writers)

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
