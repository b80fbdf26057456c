"""A sweep's journal: an SQLite file to which its one launcher appends what happens, and which anybody may read.

Nothing in it is ever changed, so a launcher that is killed at any moment leaves a journal that tells what it had
committed; the next one goes on from there. Whoever holds the sweep's lock is its launcher.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from kourou import errors
from kourou.closing import ClosedAtExit
from kourou.experiments.failures import SweepBusy, SweepError
from kourou.experiments.journal.run_records import Event, RunRecord, apply_event
from kourou.limits import free_on_disk

JOURNAL_FILE = "sweep.sqlite"
LOCK_FILE = "sweep.lock"

_TABLE = "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at REAL, kind TEXT, run TEXT, data TEXT)"
_INSERT = "INSERT INTO events (at, kind, run, data) VALUES (?, ?, ?, ?)"
_LAUNCH = "launch"  # kind of the events that are about a launcher, not about a run
_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.02
_BUSY_TIMEOUT_S = 30.0  # for another process's lock on the file, which is held for milliseconds
_OF_DISK = ("disk is full", "disk I/O error", "unable to open")  # what SQLite says where there is no room for it


class Launch(NamedTuple):
    """A launcher that worked on the sweep."""

    launch_id: str
    """Marks every process that it started."""
    host: str
    at: float
    backend: str
    """``processes``, ``slurm`` or ``template``."""


class SweepLock(ClosedAtExit):
    """Says that this process is the sweep's launcher; the kernel gives it up when the process ends, however it ends.

    Raises:
        SweepBusy: another process is its launcher.
        SweepError: the folder cannot be written, or its file system gives no locks.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SweepError(f"the sweep in {folder} cannot be changed: {error}") from error
        # Whoever looks whether there is a launcher has the lock for an instant.
        try:
            held = any(_locked(self._file, path) for _ in range(_LOCK_TRIES))
        except SweepError:
            os.close(self._file)
            raise
        if not held:
            holder = _holder(path)
            os.close(self._file)
            where, quoted = f"pid {holder.get('pid')} on {holder.get('host')}", shlex.quote(str(folder))
            raise SweepBusy(
                f"sweep {folder} is being run by {where}: look with `kourou sweep status {quoted}`, "
                f"end it with `kourou sweep cancel {quoted}`"
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def close(self) -> None:
        """Give the lock up."""
        os.close(self._file)


def _locked(file: int, path: Path) -> bool:
    if try_lock(file, path):
        return True
    time.sleep(_LOCK_PAUSE_S)
    return False


def find_launcher(folder: Path) -> dict[str, Any] | None:
    """``pid`` and ``host`` of the process that runs the sweep; None: nobody does.

    Raises:
        SweepError: the folder's file system gives no locks.
    """
    path = folder / LOCK_FILE
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(file, path, fcntl.LOCK_SH) else _holder(path)
    finally:
        os.close(file)


class Journal:
    """Writes a sweep's journal, and knows the state of every run in it. It belongs to one thread.

    Args:
        on_disk: False keeps it in memory, for whoever only needs what a scheduler appends.

    Raises:
        SweepError: the file is no journal, or cannot be written.
    """

    def __init__(self, folder: Path, *, on_disk: bool = True) -> None:
        with _sqlite_errors(folder), contextlib.ExitStack() as undo:
            place = folder / JOURNAL_FILE if on_disk else ":memory:"
            self._db = sqlite3.connect(place, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
            undo.callback(self._db.close)
            # SQLite's WAL is memory that the processes of one host share; others would read something else.
            self._db.execute(f"PRAGMA journal_mode={'TRUNCATE' if on_disk and is_shared(folder) else 'WAL'}")
            self._db.execute("PRAGMA synchronous=NORMAL")  # what is committed survives the process, not a power cut
            self._db.execute(_TABLE)
            self.records = _replay(self._db)
            undo.pop_all()
        self._folder = folder
        self._uncommitted: list[tuple[float, str, str, str]] = []

    def launch(self, launch_id: str, **facts: Any) -> None:
        """Say which launcher writes from now on."""
        self._buffer(time.time(), _LAUNCH, launch_id, {"host": socket.gethostname(), "pid": os.getpid(), **facts})

    def append(self, kind: str, run_id: str, **data: Any) -> RunRecord:
        """Something happened to a run: its new record. It is on disk once :meth:`commit` returns."""
        event = Event(kind=kind, run_id=run_id, at=time.time(), data=data)
        record = self.records[run_id] = apply_event(self.records.get(run_id), event)
        self._buffer(event.at, kind, run_id, data)
        return record

    def commit(self) -> None:
        """Write what was appended, all of it or nothing.

        Raises:
            SweepError: the disk is full, or the like.
        """
        if not self._uncommitted:
            return
        with _sqlite_errors(self._folder):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(_INSERT, self._uncommitted)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has rolled it back itself
                    self._db.execute("ROLLBACK")
                raise
        self._uncommitted.clear()

    def close(self) -> None:
        """Close the file; what was not committed is not in it."""
        self._db.close()

    def _buffer(self, at: float, kind: str, run_id: str, data: Mapping[str, Any]) -> None:
        self._uncommitted.append((at, kind, run_id, json.dumps(data, ensure_ascii=True)))


@contextlib.contextmanager
def locked_journal(folder: Path) -> Iterator[Journal]:
    """In the body this process is the sweep's launcher, and the journal is its to write.

    Raises:
        SweepBusy: another process is.
        SweepError: see :class:`Journal`.
    """
    with SweepLock(folder), contextlib.closing(Journal(folder)) as journal:
        yield journal


def read_records(folder: str | os.PathLike[str]) -> dict[str, RunRecord]:
    """The state of each run, by its id, in the order in which the runs were declared.

    Raises:
        NotFound: there is no sweep in that folder.
        SweepError: its journal cannot be read.
    """
    with _reading(Path(folder)) as db:
        return _replay(db)


def read_launches(folder: str | os.PathLike[str]) -> list[Launch]:
    """The launchers that have worked on the sweep, the first one first.

    Raises:
        NotFound: there is no sweep in that folder.
    """
    with _reading(Path(folder)) as db:
        rows = db.execute("SELECT run, data, at FROM events WHERE kind = ? ORDER BY seq", (_LAUNCH,))
        return [
            Launch(launch_id=run, host=(facts := json.loads(data))["host"], at=at, backend=facts.get("backend", ""))
            for run, data, at in rows
        ]


def _replay(db: sqlite3.Connection) -> dict[str, RunRecord]:
    records: dict[str, RunRecord] = {}
    for at, kind, run_id, data in db.execute("SELECT at, kind, run, data FROM events ORDER BY seq"):
        if kind != _LAUNCH:
            event = Event(kind=kind, run_id=run_id, at=at, data=json.loads(data))
            records[run_id] = apply_event(records.get(run_id), event)
    return records


@contextlib.contextmanager
def copied_journal(folder: Path) -> Iterator[Path | None]:
    """A folder with a copy of a sweep's journal, if it has one: looking into the original may write to it."""
    if not (folder / JOURNAL_FILE).exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kourou-") as copy:
        for file in folder.glob(f"{JOURNAL_FILE}*"):
            if not file.name.endswith("-shm"):
                shutil.copyfile(file, Path(copy, file.name))
        yield Path(copy)


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / JOURNAL_FILE
    if not path.exists():
        raise errors.NotFound(f"there is no sweep in {folder}: it has no {JOURNAL_FILE}")
    if not os.access(folder, os.W_OK) or not os.access(path, os.W_OK):  # another user's, or on a disk for reading only
        with copied_journal(folder) as copy:
            if copy is not None:
                with _reading(copy) as db:
                    yield db
                return
    # Not mode=ro: the first reader after a kill has to recover what the dead launcher had committed.
    with (
        _sqlite_errors(folder),
        contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)) as db,
    ):
        db.execute(_TABLE)
        yield db


@contextlib.contextmanager
def _sqlite_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        why = f"{error} (on {file_system(folder)}, whose locks SQLite needs)" if is_shared(folder) else str(error)
        if any(words in why for words in _OF_DISK):
            why += (
                f"; {free_on_disk(folder)}. Make room, and run it again: it goes on where it was; or keep its folder "
                "elsewhere (--sweep-dir, output_dir=)"
            )
        raise SweepError(f"the journal {folder / JOURNAL_FILE} cannot be used: {why}") from error


def _holder(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(holder, dict):
            return holder
    return {"pid": None, "host": "?"}  # it has the lock, and has not written its name yet


def declare(journal: Journal, records: Iterable[Mapping[str, Any]]) -> None:
    """Tell of runs that the journal does not know, or knows otherwise."""
    for fields in records:
        data = {name: value for name, value in fields.items() if name != "run_id"}
        known = journal.records.get(fields["run_id"])
        if known is None or any(getattr(known, name) != value for name, value in data.items()):
            journal.append("declared", fields["run_id"], **data)


# All others, NFS, Lustre, GPFS, CephFS, SMB and FUSE's among them, may be seen by several hosts.
_LOCAL = {"apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "overlay", "ramfs"}
_LOCAL |= {"reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"}
_HELD = {errno.EAGAIN, errno.EACCES}


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, such as ``ext4`` or ``nfs4``; empty: nothing tells."""
    place = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    # Of those mounted one over the other, the last counts.
    return max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def is_shared(folder: Path) -> bool:
    """Whether other hosts may see a folder."""
    return file_system(folder) not in {"", *_LOCAL}


def try_lock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock a file, if no other process has locked it; whether that worked.

    Raises:
        SweepError: its file system gives no locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise SweepError(
            f"{path} cannot be locked: {error.strerror}. Its file system ({file_system(path.parent) or 'unknown'}) "
            "gives no locks, without which two launchers could run one sweep: mount it with them (NFS: rpc.statd and "
            "lockd, or version 4; Lustre: -o flock), or keep the sweep's folder elsewhere, with --sweep-dir"
        ) from error
    return True
