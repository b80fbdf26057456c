"""The coordinator: the directory of a program's nodes, and the broadcast of its end. State only; no network here.

Nodes that are threads call it directly; nodes that are processes reach it through
:mod:`kourou.runtime.control.service`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any

from kourou.runtime.context.context import ControlPlane
from kourou.runtime.control.directory import Directory
from kourou.runtime.control.node_events import Event, Release, Stop, Welcome
from kourou.runtime.model import events
from kourou.runtime.model.names import label_of
from kourou.runtime.model.records import NodeRecord, NodeState, Outcome, shortened
from kourou.runtime.model.resize import Resize
from kourou.runtime.stopping.state import StopState


class Watcher:
    """One listener of events: a node in another process.

    Of each node that it follows the latest record alone waits for it, so one that takes none keeps a bounded number.
    """

    def __init__(self, name: str, attempt: int, lock: threading.RLock, on_news: Callable[[], None]) -> None:
        self.name = name
        self.attempt = attempt
        self.follows: set[str] = set()
        self._lock = lock
        self._on_news = on_news
        self._waiting: dict[object, Event] = {}

    def put(self, event: Event) -> None:
        """Something has happened. With the lock held."""
        about = event.name if isinstance(event, NodeRecord) else type(event)
        self._waiting.pop(about, None)  # a record comes after what has happened before it, as a stop does
        self._waiting[about] = event
        self._on_news()

    def take(self) -> Event | None:
        """What has happened next; None: nothing yet."""
        with self._lock:
            return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None


class Coordinator:
    """The one table that all parts of a run agree on. Thread-safe.

    Args:
        records: the nodes, all PENDING.
        on_change: called with every new record.
        tell_director: called with what it has to know, and what somebody asks of it.
        on_resize: called with (resize, origin) for every request for nodes to come or go; who they are.
    """

    def __init__(
        self,
        records: Iterable[NodeRecord],
        *,
        on_change: Callable[[NodeRecord], None],
        tell_director: Callable[[events.Event], None],
        on_resize: Callable[[Resize, str], tuple[str, ...]] = lambda *_: (),
    ) -> None:
        self.directory = Directory(records)
        self._on_change = on_change
        self._tell_director = tell_director
        self.resize = on_resize
        """Let nodes come or go, and wait until the director has taken it; who they are."""
        self._lock = threading.RLock()
        self._watchers: dict[str, set[Watcher]] = {}
        self._followers: dict[str, set[Watcher]] = {}
        self._group_followers: dict[str, set[Watcher]] = {}
        self._stop_states: list[tuple[str, StopState]] = []  # each with its node
        self._dismissed: dict[str, str] = {}  # nodes → who had them removed
        self._stop: Stop | None = None
        self._released = False

    @property
    def stop_reason(self) -> str | None:
        """Why the program stops; None while it does not."""
        return self._stop.reason if self._stop else None

    def change(self, name: str, of_attempt: int | None = None, /, **changes: Any) -> NodeRecord | None:
        """Change a node's record and tell who follows it.

        Args:
            name: the node.
            of_attempt: it says so; dropped unless it is the present one and has not ended. None: the director does.
            changes: fields of :class:`NodeRecord`.
        """
        with self._lock:
            old = self.directory.get(name)
            if old is None or (of_attempt is not None and (of_attempt != old.attempt or old.state.ended)):
                return None
            if of_attempt is not None and old.state is NodeState.STOPPING:
                changes.pop("state", None)  # it was being constructed when the stop came, and says that it is READY
            new = dataclasses.replace(old, **changes)
            self._put(new)
            self._on_change(new)
            if of_attempt is not None:  # what the director changed itself it knows
                ready = new.state is NodeState.READY
                self._tell_director(
                    events.Published(name=name, attempt=of_attempt, ready=ready, serves_only=new.serves_only)
                )
            return new

    def add(self, records: Iterable[NodeRecord]) -> None:
        """There are these nodes as well."""
        with self._lock:
            for record in records:
                self._put(record)

    def _put(self, record: NodeRecord) -> None:
        """A record is new. With the lock held."""
        self.directory.put(record)
        for watcher in self._followers.get(record.name, ()):
            watcher.put(record)
        for watcher in self._group_followers.get(label_of(record.name), ()):
            watcher.put(record)

    def attach(self, name: str, attempt: int, on_news: Callable[[], None]) -> Watcher:
        """A node is there; its watcher hears all that happens from now on, and ``on_news`` is called for each event."""
        watcher = Watcher(name, attempt, self._lock, on_news)
        with self._lock:
            removed = self._dismissed.get(name, "")
            if self._stop:  # before the welcome: a node that comes late does not even begin
                watcher.put(self._stop)
            if self._released or removed:
                watcher.put(Release(removed=removed))
            watcher.put(Welcome())
            self._watchers.setdefault(name, set()).add(watcher)
        self._tell_director(events.Attached(name=name, attempt=attempt))
        return watcher

    def detach(self, watcher: Watcher) -> None:
        """The node is gone."""
        with self._lock:
            self._watchers.get(watcher.name, set()).discard(watcher)
            for name in watcher.follows:
                self._followers[name].discard(watcher)
            for followers in self._group_followers.values():
                followers.discard(watcher)

    def follow(self, follower: str, name: str) -> None:
        """Tell ``follower`` of ``name``'s record, now and whenever it changes."""
        with self._lock:
            record = self.directory.get(name)
            for watcher in self._watchers.get(follower, ()):
                watcher.follows.add(name)
                self._followers.setdefault(name, set()).add(watcher)
                if record is not None:
                    watcher.put(record)

    def follow_group(self, follower: str, label: str) -> list[NodeRecord]:
        """Tell ``follower`` of every node of a group, also of those that come later; their records as they are now."""
        with self._lock:
            self._group_followers.setdefault(label, set()).update(self._watchers.get(follower, ()))
            return self.directory.members(label)

    def report(self, name: str, attempt: int, outcome: Outcome) -> None:
        """A node's last words."""
        self._tell_director(events.Reported(name=name, attempt=attempt, outcome=outcome))

    def add_stop_state(self, state: StopState, name: str = "") -> None:
        """A node of this process (or the launcher) that shall be told of stop and release."""
        with self._lock:
            self._stop_states.append((name, state))
            stopping, released, removed = self._stop, self._released, self._dismissed.get(name, "")
        if stopping:
            state.set()
        if released or removed:
            state.release(removed)

    def dismiss(self, name: str, origin: str) -> None:
        """Tell one node that it is to stop, and that nobody needs it any more, since somebody had it removed."""
        with self._lock:
            self._dismissed[name] = origin
            states = self._tell(Release(removed=origin), name)
        for state in states:
            state.release(origin)

    def request_stop(self, reason: str, origin: str) -> None:
        """Somebody wants the program to end."""
        self._tell_director(events.StopAsked(reason=shortened(reason), origin=origin))

    def request_restart(self, name: str, origin: str) -> None:
        """Somebody wants a node to be ended and started again."""
        self._tell_director(events.RestartAsked(name=name, origin=shortened(origin)))

    def broadcast_stop(self, reason: str) -> None:
        """Tell everybody that the program stops. Only the first call counts."""
        with self._lock:
            if self._stop:
                return
            self._stop = Stop(reason=reason)
            states = self._tell(self._stop)
        for state in states:
            state.set()

    def broadcast_release(self) -> None:
        """Tell the nodes that only serve that they may go."""
        with self._lock:
            if self._released:
                return
            self._released = True
            states = self._tell(Release())
        for state in states:
            state.release()

    def _tell(self, event: Stop | Release, only: str | None = None) -> list[StopState]:
        """Tell nodes of other processes; the states to set of those of this one. With the lock held."""
        for watchers in self._watchers.values() if only is None else (self._watchers.get(only, ()),):
            for watcher in watchers:
                watcher.put(event)
        return [state for name, state in self._stop_states if only in {None, name}]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeControl(ControlPlane):
    """The :class:`~kourou.runtime.context.context.ControlPlane` of a node in this process, or of the launcher."""

    coordinator: Coordinator
    origin: str
    attempt: int | None = None

    def update(self, name: str, **changes: Any) -> None:
        self.coordinator.change(name, self.attempt, **changes)

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None = None) -> NodeRecord | None:
        return self.coordinator.directory.wait(name, holds, timeout_s)

    def members(self, label: str) -> list[NodeRecord]:
        return self.coordinator.directory.members(label)

    def request_stop(self, reason: str) -> None:
        self.coordinator.request_stop(reason, self.origin)

    def resize(self, resize: Resize) -> tuple[str, ...]:
        return self.coordinator.resize(resize, self.origin)
