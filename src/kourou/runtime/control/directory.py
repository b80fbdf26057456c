"""The directory: every node's present record, and waiting for one to change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from kourou.runtime.model.names import index_of, label_of, root_of
from kourou.runtime.model.records import NodeRecord


class Directory:
    """A thread-safe table of node records; readers can wait for a change."""

    def __init__(self, records: Iterable[NodeRecord] = ()) -> None:
        self._records: dict[str, NodeRecord] = {}
        self._groups: dict[str, list[str]] = {}  # label → nodes that a program was given
        self._lock = threading.RLock()  # a signal handler may wait for a node, too
        # Of nodes that somebody waits for. One for all nodes would wake all who wait whenever any node changes.
        self._changed: dict[str, threading.Condition] = {}
        for record in records:
            self.put(record)

    def put(self, record: NodeRecord) -> None:
        """Replace a node's record and wake who waits for it."""
        with self._lock:
            if record.name not in self._records and root_of(record.name) == record.name:
                self._groups.setdefault(label_of(record.name), []).append(record.name)
            self._records[record.name] = record
            if record.name in self._changed:
                self._changed[record.name].notify_all()

    def add(self, record: NodeRecord) -> None:
        """A record that came by another way than changes do, unless there is one: that may be newer."""
        with self._lock:
            if record.name not in self._records:
                self.put(record)

    def get(self, name: str) -> NodeRecord | None:
        """A node's record, or None when nothing is known of it."""
        return self._records.get(name)  # a single look, which needs no lock

    def all(self) -> list[NodeRecord]:
        """All records, in the order of the program."""
        with self._lock:
            return list(self._records.values())

    def members(self, label: str) -> list[NodeRecord]:
        """The nodes of a group that have not ended for good, and are not being removed."""
        with self._lock:
            records = [self._records[name] for name in self._groups.get(label, ())]
        return sorted((r for r in records if not (r.gone or r.removed)), key=lambda r: index_of(r.name))

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None = None) -> NodeRecord | None:
        """Block until ``holds(record)``; the record, or None when ``timeout_s`` seconds passed first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            changed = self._changed.setdefault(name, threading.Condition(self._lock))
            while True:
                record = self._records.get(name)
                if record is not None and holds(record):
                    return record
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                changed.wait(left)
