"""What a test, or the whole session, leaves behind: processes, threads, file descriptors, shared memory."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
DESCRIPTORS = Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd")
POLL_S = 0.02

# Started by the standard library once per process, on purpose, and ended with it.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What there is at one moment.

    Attributes:
        mark: Start of the value that KOUROU_RUNS_DIR has in every process to watch. It finds those that are no
            descendants any more because their parent died.
    """

    mark: str
    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    shared_memory: frozenset[Path]

    @classmethod
    def take(cls, mark: str | Path) -> Snapshot:
        return cls(
            mark=str(mark),
            processes=frozenset(_processes(str(mark))),
            threads=frozenset(threading.enumerate()),
            descriptors=frozenset(_descriptors()),
            shared_memory=frozenset(_shared_memory()),
        )

    def leftovers(self) -> list[str]:
        """One line for each thing that is here now and was not then."""
        now = Snapshot.take(self.mark)
        lines = [f"process {_describe(process)}" for process in now.processes - self.processes]
        lines += [f"thread {thread.name}" for thread in now.threads - self.threads if thread.is_alive()]
        came, went = now.descriptors - self.descriptors, self.descriptors - now.descriptors
        # gRPC opens those without a name anew at a fork: as many as there were are no leak, whatever their numbers are.
        more = Counter(target for _, target in came) - Counter(target for _, target in went)
        lines += [f"file descriptor {number} -> {target}" for number, target in came if target in more]
        segments = now.shared_memory - self.shared_memory
        lines += [f"shared memory {path}" for path in segments if not _used_by_others(path, now.processes)]
        return sorted(lines)

    def leftovers_after(self, timeout_s: float) -> list[str]:
        """What is still left after at most ``timeout_s`` seconds: an end takes a moment, so it is polled for."""
        deadline = time.monotonic() + timeout_s
        while (lines := self.leftovers()) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(POLL_S)
        return lines


def owners_of_descriptors() -> list[str]:
    """A line for each object of gRPC or asyncio that lives, and the kinds of what refers to it: a descriptor without a
    name does not say whose it is.
    """
    # Of some classes it is a descriptor.
    places = ("grpc.", "grpc._", "asyncio.")
    owners = [each for each in gc.get_objects() if str(type(each).__module__).startswith(places)]
    return [
        f"{type(each).__module__}.{type(each).__qualname__}, referred to by "
        f"{sorted({type(one).__qualname__ for one in gc.get_referrers(each) if one is not owners})}"
        for each in owners
    ]


# Older than the session, and not its own: nothing of them is read again, which is most of what a snapshot would cost.
_OTHERS = frozenset(psutil.process_iter()) - frozenset(psutil.Process().children(recursive=True))
# Younger ones, such as those of the session's other workers, and the mark of each: they do not become its own later.
_STRANGERS: dict[psutil.Process, str] = {}
SETTLED_S = 1.0  # a younger process may be about to execute a program, with another environment


def _processes(mark: str) -> Iterator[psutil.Process]:
    running = set(psutil.process_iter()) - _OTHERS
    for gone in _STRANGERS.keys() - running:
        del _STRANGERS[gone]
    for process, its_mark in [*_STRANGERS.items(), *_look_at(running - _STRANGERS.keys(), mark)]:
        with contextlib.suppress(psutil.Error):  # it may have ended
            if not its_mark.startswith(mark) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if not any(helper in " ".join(process.cmdline()) for helper in HELPERS):
                yield process


def _look_at(processes: Iterable[psutil.Process], mark: str) -> Iterator[tuple[psutil.Process, str]]:
    """Those that live, with the mark of each: ``mark`` itself, if they descend from this process."""
    own = os.getpid()
    parents: dict[int, int] = {}
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.Error), process.oneshot():  # it may have ended while we looked
            if process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                parents[process.pid] = process.ppid()
                found.append(process)
    settled = time.time() - SETTLED_S
    for process in found:
        if _descends(process.pid, own, parents):
            yield process, mark
            continue
        with contextlib.suppress(psutil.Error):  # it may belong to somebody else
            its_mark = process.environ().get("KOUROU_RUNS_DIR", "")
            if process.create_time() < settled and _is_whole(process.pid, parents):
                _STRANGERS[process] = its_mark
            yield process, its_mark


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor


def _is_whole(pid: int, parents: Mapping[int, int]) -> bool:
    """Whether the way up is what it was read to be: it may have broken while we looked, and lead to us by now."""
    while (parent := parents[pid]) in parents:
        pid = parent
    return psutil.Process(pid).ppid() == parent


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} (parent {process.ppid()}, {process.status()}): {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid}, which ended just now"


def _descriptors() -> Iterator[tuple[int, str]]:
    for path in DESCRIPTORS.iterdir():
        number = int(path.name)
        try:
            if DESCRIPTORS.is_relative_to("/proc"):
                yield number, str(path.readlink())
            else:
                status = os.fstat(number)
                yield number, f"{stat.filemode(status.st_mode)[0]} {status.st_dev}:{status.st_ino}"
        except OSError:
            continue  # the one that listed the folder


def _shared_memory() -> list[Path]:
    if not SHARED_MEMORY.is_dir():
        return []
    # multiprocessing's semaphores are its resource tracker's affair, which outlives the processes that it serves.
    return [segment for segment in SHARED_MEMORY.iterdir() if not segment.name.startswith("sem.mp-")]


def _used_by_others(segment: Path, ours: frozenset[psutil.Process]) -> bool:
    """Whether a process outside this session has the segment mapped: other programs run on this machine too."""
    watched = {process.pid for process in ours} | {os.getpid()}
    for process in psutil.process_iter():
        try:
            if process.pid not in watched and str(segment) in Path(f"/proc/{process.pid}/maps").read_text(
                encoding="utf-8"
            ):
                return True
        except OSError:
            continue  # it ended while we looked, or belongs to somebody else
    return False
