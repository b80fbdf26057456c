"""The zygote: a small single-threaded process that forks every process of a host, and reaps them.

Why it exists: a node that is forked from a process which has imported all that it needs is up in a few
milliseconds, where a fresh interpreter needs 150; a fork is safe only from a process without threads, which a launcher
is not; and whoever forks is the parent, so it alone learns each exit code and cannot mistake a reused pid.

It talks to the supervisor over a socket pair. When that closes, the launcher is gone (kill -9 included): the zygote
ends every process below it and then itself. Processes whose parents died become its children (it is a subreaper), so
"no children left" means that nothing is left.

Its one thread waits for nothing but the next event: not for the supervisor to take an answer, and not for the end of
what a node left behind, which is an event like all others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from kourou import cpython
from kourou.limits import with_remedy
from kourou.runtime.node_environment import COOKIE
from kourou.runtime.process import prctl, process_table
from kourou.runtime.process.channel import Channel, close_fds
from kourou.runtime.process.forked import Child, become
from kourou.runtime.process.preload import import_libraries
from kourou.standard_streams import flush_printed

if sys.platform != "win32":
    import resource

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ORPHAN_GRACE_S = 0.7  # the launcher died: time from SIGTERM to SIGKILL; all must be gone within 2 s
_LEFTOVERS_S = 1.0  # for processes that a node left behind to die once they were killed
_LEFTOVERS_POLL_MS = 20  # until the next look at them, where their ends do not lead to one


def main(fd: int, *, preload: tuple[str, ...], version: tuple[int, int]) -> None:
    """Serve the supervisor at the other end of socket ``fd``; in forked children, become the node.

    ``preload`` names modules to import first; what else to import, the first message says. ``version`` is the
    launcher's Python: functions travel as bytecode, which another version cannot run.
    """
    if preload and sys.version_info[:2] != version:
        wanted, own = (".".join(map(str, v)) for v in (version, sys.version_info[:2]))
        sys.exit(f"the launcher runs Python {wanted} and this is {own}: nodes need the launcher's version")
    prctl.adopt_orphans()
    prctl.set_name("kourou-zygote")
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # it ends with the launcher, and only then
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)  # what a child does from the moment when it lets them through
    prctl.die_with_parent()  # while it imports, nobody listens to the socket
    if _is_closed(fd):
        sys.exit("the launcher ended before its first process was started")
    _print_lines()
    for module in preload:
        importlib.import_module(module)
    channel = Channel(socket.socket(fileno=fd))
    begin = _first_message(channel)
    try:
        settings = import_libraries(begin["libraries"])
    except BaseException:
        process_table.signal_all(process_table.ProcessTable().below(os.getpid()))  # nobody else knows of them
        raise
    prctl.outlive_parent()
    gc.freeze()  # so that collections in children do not touch, and thereby copy, the shared pages
    gc.enable()  # never before: what a collection frees are holes in pages, into which each child writes anew
    flush_printed()
    environment = dict(os.environ)
    zygote = Zygote(channel)
    pid = os.getpid()
    try:
        child = zygote.serve()
    except BaseException:
        if os.getpid() == pid:  # a fault in here must not set the nodes' processes free
            zygote.end_everything()
        raise
    if child is not None:
        become(child, settings, environment)
    _leave()


def _first_message(channel: Channel) -> dict[str, Any]:
    """Learn for whom this is, and where to print from now on; what it imports next may take any time, or print."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    while (taken := channel.take()) is None:
        poller.poll()
        if not channel.receive():
            sys.exit("the launcher ended before its first process was started")
    begin, (log,) = taken
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    resource.setrlimit(resource.RLIMIT_NOFILE, begin["descriptors"])
    os.environ[COOKIE] = begin["cookie"]
    process_table.show_cookie(begin["cookie"])  # finds its place, for all forks
    return begin


@dataclasses.dataclass(kw_only=True)
class _Node:
    """A process that was forked, until its end is told."""

    request: str
    cookie: str
    status: int | None = None
    """How it ended, as ``waitpid`` has it; None while it lives."""
    report_by: float = 0.0
    """Once it is dead: the monotonic time when its end is told, even if something that it started still lives."""


class Zygote:
    """The loop: requests from the supervisor, exits from the kernel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._nodes: dict[int, _Node] = {}
        self._pids: dict[str, int] = {}  # by the id of the spawn request
        self._ended: list[int] = []  # nodes whose end is not told yet
        self._dismissed = False  # the launcher has said that it needs this process no more
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> Child | None:
        """Serve until the launcher is gone (None), or until this is a forked child."""
        self._channel.send({"event": "ready"})
        poller = select.poll()
        poller.register(self._wake_r, select.POLLIN)
        while True:
            if (child := self._handle_requests()) is not None:  # some came with the first message
                return child
            poller.register(self._channel, select.POLLIN | (select.POLLOUT if self._channel.wants_write else 0))
            poller.poll(_LEFTOVERS_POLL_MS if self._ended else None)
            self._drain_wakeups()
            self._reap()
            self._channel.flush()
            if not self._channel.receive():
                self._handle_requests()  # its last words; nothing begins any more
                if self._nodes or not self._dismissed:
                    _note_end_of_launcher()
                self.end_everything()
                return None

    def _handle_requests(self) -> Child | None:
        """Do what was asked for. In a forked child: what it has to become."""
        signals = []
        while (taken := self._channel.take()) is not None:
            request, fds = taken
            if request["op"] == "signal":
                signals.append(request)
            elif request["op"] == "end":
                self._dismissed = True
            elif _is_closed(self._channel.fileno()):
                close_fds(fds)  # the launcher is gone: none of what it still asked for begins
            elif (child := self._spawn(request, fds)) is not None:
                return child
        self._signal(signals)
        return None

    def _spawn(self, request: dict[str, Any], fds: tuple[int, ...]) -> Child | None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._channel.send({"event": "failed", "id": request["id"], "error": with_remedy(error)})
            close_fds(fds)
            return None
        if pid == 0:
            self._detach(parent)
            return Child(boot=request["boot"], fds=fds)
        close_fds(fds)
        if pid in self._nodes:  # that of one that has ended, which is another's now
            self._ended.remove(pid)
            self._report_exit(pid)
        self._nodes[pid] = _Node(request=request["id"], cookie=request["boot"]["env"].get(COOKIE, ""))
        self._pids[request["id"]] = pid
        self._channel.send({"event": "spawned", "id": request["id"], "pid": pid})
        return None

    def _detach(self, parent: int) -> None:
        """In the child: let go of all that is the zygote's.

        It does little, here and until it executes a command: every page that it touches is copied for it.
        """
        os.setsid()
        process_table.mark_own()
        prctl.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)  # the zygote died before it was asked to take this process along
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _signal(self, requests: list[dict[str, Any]]) -> None:
        table = process_table.ProcessTable() if any(not request["alone"] for request in requests) else None
        for request in requests:
            pid = self._pids.get(request["id"])
            if pid is not None:  # it is not reaped yet, so its pid cannot be another's
                others = () if table is None or request["alone"] else table.members(pid) - {pid}
                # all at once, since a shell would tell of the end of its child
                process_table.signal_all([pid, *others], request["number"])

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                node = self._nodes.get(pid)
                if node is not None and node.status is None:  # else it is an orphan that a node left behind
                    del self._pids[node.request]
                    node.status, node.report_by = status, time.monotonic() + _LEFTOVERS_S
                    self._ended.append(pid)
        if self._ended:
            self._report_exits()

    def _report_exits(self) -> None:
        """Tell the ends of nodes of which nothing is left; what is left is killed, and its end leads here again.

        One that was about to fork when it was killed may have left a child, which is found then.
        """
        left = self._leftovers()
        process_table.signal_all(pid for pids in left.values() for pid in pids)
        ended, self._ended = self._ended, []
        for pid in ended:
            if left[pid] and time.monotonic() < self._nodes[pid].report_by:
                self._ended.append(pid)
            else:
                self._report_exit(pid)

    def _report_exit(self, pid: int) -> None:
        node = self._nodes.pop(pid)
        assert node.status is not None  # noqa: S101 - it has ended
        code = os.waitstatus_to_exitcode(node.status)
        exit_code, number = (code, None) if code >= 0 else (None, -code)
        self._channel.send({"event": "exited", "id": node.request, "code": exit_code, "signal": number})

    def _leftovers(self) -> dict[int, list[int]]:
        """What nodes that have ended left behind, by node."""
        if not _PROC_CHILDREN:
            table = process_table.ProcessTable()
            return {
                pid: [*table.members(pid) - {pid}, *process_table.escaped_from(self._nodes[pid].cookie)]
                for pid in self._ended
            }
        # What they started is this process's by now, unless its own parent still lives, which then is.
        left: dict[int, list[int]] = {pid: [] for pid in self._ended}
        for orphan in _own_children():
            if orphan not in self._nodes and (pid := self._origin(orphan)) in left:
                left[pid].append(orphan)
        return left

    def _origin(self, orphan: int) -> int | None:
        """The node that an orphan comes from."""
        if (marked := process_table.node_of(orphan)) in self._nodes:
            return marked
        with contextlib.suppress(OSError):
            if (leader := os.getsid(orphan)) in self._nodes:
                return leader
        cookies = ((pid, self._nodes[pid].cookie) for pid in self._ended)
        return next((pid for pid, cookie in cookies if cookie and process_table.escaped_from(cookie, [orphan])), None)

    def end_everything(self) -> None:
        """SIGTERM, a moment, then SIGKILL until nothing is left below this process."""
        if _PROC_CHILDREN and not self._reap_all():
            return  # whatever there was would be its child
        process_table.signal_all(process_table.ProcessTable().members(os.getpid(), *self._nodes), signal.SIGTERM)
        deadline = time.monotonic() + _ORPHAN_GRACE_S
        while self._reap_all() and time.monotonic() < deadline:
            select.select([self._wake_r], [], [], 0.02)
            self._drain_wakeups()
        while self._reap_all():
            process_table.signal_all(process_table.ProcessTable().below(os.getpid()))
            select.select([self._wake_r], [], [], 0.02)
            self._drain_wakeups()

    def _reap_all(self) -> bool:
        """Reap what is dead; True while children are left."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            return True
        return False

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_r, 4096):
                pass


def _note_end_of_launcher() -> None:
    """The time of this line is all that is known of when the launcher died."""
    with contextlib.suppress(OSError):  # no disk, say
        os.write(1, b"kourou: the launcher is gone, and the processes that it started end with it\n")


def _leave() -> NoReturn:
    """End as an interpreter does, but do not take all modules apart: a stop waits for it."""
    try:
        cpython.run_exit_functions()
        flush_printed()
    except BaseException as error:  # noqa: BLE001 - of a library that it has imported
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(0)


def _is_closed(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLHUP)
    return any(events & select.POLLHUP for _, events in poller.poll(0))


def _own_children() -> list[int]:
    return [int(pid) for pid in _CHILDREN_FILE.read_bytes().split()]


def _print_lines() -> None:
    """Give this process, and its forks, streams that lose no line when they die, and can print any character.

    Those that Python has made for a log, which are no terminal, hold lines back. New ones instead would leave those to
    whatever has taken hold of them when it was imported.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]


_CHILDREN_FILE = Path(f"/proc/self/task/{os.getpid()}/children")
_PROC_CHILDREN = _CHILDREN_FILE.exists()
