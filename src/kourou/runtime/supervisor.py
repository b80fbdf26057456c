"""The supervisor: starts the processes of one host, reads what they print, and knows how each of them ended.

It runs one thread, which owns the zygotes, the pipes and the table of processes; other threads hand it commands. The
same class serves a launcher and an agent on another host. There is no second way to start a process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kourou import errors
from kourou.runtime import sessions
from kourou.runtime.append_file import LONGEST_LINE
from kourou.runtime.plan import ProcessSpec
from kourou.runtime.preload import NODES, Preload
from kourou.runtime.records import MOST_LINE_BYTES, ProcessExit, shortened
from kourou.runtime.zygote_process import ZygoteProcess, start_zygote

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ProcessEvents", "Supervisor"]

_log = logging.getLogger(__name__)

_LAST_LINES = 50  # kept of each process's output, for the report of a failure
_READ_BYTES = 1 << 16
_MEMORY_CHECK_S = 0.1  # between looks at the memory of nodes that have a limit
_CLOSE_S = 5.0  # a zygote that does not end this long after its socket closed is killed


class ProcessEvents(Protocol):
    """What the supervisor tells; called from its own thread, so each must return quickly."""

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """The process exists."""

    def on_line(self, name: str, line: str, stream: str) -> None:
        """It printed a line; ``stream`` is "stdout" or "stderr"."""

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """It ended, all its lines were told, and nothing that it started is left."""


@dataclasses.dataclass
class _Process:
    name: str
    attempt: int
    zygote: ZygoteProcess
    last_lines: deque[str]
    pipes: dict[int, str] = dataclasses.field(default_factory=dict)  # descriptor → stream
    partial: dict[int, bytes] = dataclasses.field(default_factory=dict)
    pid: int | None = None
    memory_bytes: int | None = None
    verdict: str = ""  # why it was killed by the supervisor itself


class Supervisor:
    """Owner of the processes of one host. Use it in a ``with``, or call :meth:`close`.

    Args:
        events: told of everything that happens.
        run_id: marks the environment of every process, so that even a runaway grandchild can be found.
        folder: where zygotes write their logs, should they ever have something to say.
        preload: what the processes find imported already.
    """

    def __init__(self, events: ProcessEvents, *, run_id: str, folder: Path, preload: Preload = NODES) -> None:
        if not sys.platform.startswith(("linux", "darwin")):
            raise errors.UnsupportedPlatform(
                f"kourou starts processes on Linux and macOS, not on {sys.platform}; local_mt works here"
            )
        self._events = events
        self._run_id = run_id
        self._folder = folder
        self._preload = preload
        self._processes: dict[str, _Process] = {}  # by the id of the spawn request: name@attempt
        self._zygotes: dict[tuple[Any, ...], ZygoteProcess] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, self._on_wake)
        self._closing = False
        self._next_memory_check = 0.0
        self._fault: Exception | None = None  # what ended the thread too early
        self._thread = threading.Thread(target=self._loop, name="kourou-supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def prepare(self, interpreter: str = sys.executable) -> None:
        """Start the zygote that plain nodes will need, while the caller prepares other things."""
        self._post(lambda: self._prepare(interpreter))

    def _prepare(self, interpreter: str) -> None:
        with contextlib.suppress(OSError):  # the first start of a node says what is wrong
            self._zygote_for(interpreter, (), os.environ)

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Start a process; ``on_started`` or ``on_exited`` follows.

        Args:
            spec: what to start.
            attempt: 1 for the first start.
            boot: what the worker needs beside it (addresses, folders); JSON-able. ``entry`` names the module whose
                ``run(boot)`` is the process's life, and returns its exit code; by default that of a node, where there
                is a payload, and none where the spec is a command.
            fds: descriptors that the process inherits, as ``boot["fds"]``; they are closed here.
        """
        self._post(lambda: self._start(spec, attempt, dict(boot), fds))

    def signal(self, name: str, number: int, *, alone: bool = False) -> None:
        """Send a signal to a process and, unless ``alone``, to all that it started."""
        self._post(lambda: self._signal(name, number, alone=alone))

    def close(self) -> None:
        """Kill what still runs and end the zygotes. Idempotent."""
        if not self._closing:
            self._post(self._stop)
        self._thread.join()

    def _post(self, command: Callable[[], None]) -> None:
        if self._fault is not None:
            raise errors.LaunchError("processes cannot be started or signalled any more") from self._fault
        self._commands.append(command)
        with contextlib.suppress(OSError):
            self._wake_w.send(b"\0")

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_r.recv(4096)
        while self._commands:
            self._commands.popleft()()

    def _loop(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever for what it ended
            self._give_up(error)
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _give_up(self, error: Exception) -> None:
        """A fault of ours: end all processes and say so."""
        _log.exception("the supervisor failed")
        self._closing = True
        self._fault = error
        lost = list(self._processes.values())
        for process in lost:
            process.partial.update(dict.fromkeys(process.partial, b""))  # telling may be what failed
        with contextlib.suppress(Exception):
            self._stop()
        for process in lost:
            verdict = f"was lost to a fault of kourou itself: {error!r}"
            record = ProcessExit(
                code=None, signal=signal.SIGKILL, last_lines=tuple(process.last_lines), verdict=verdict
            )
            try:
                self._events.on_exited(process.name, process.attempt, record)
            except Exception:  # noqa: BLE001 - the others want to be told, too
                _log.exception("nobody could be told that %s was lost", process.name)

    def _watch(self) -> None:
        while not self._closing:
            limited = any(process.memory_bytes for process in self._processes.values())
            for key, _ in self._selector.select(_MEMORY_CHECK_S if limited else None):
                # An earlier event of the same batch may have closed this one's descriptor, and opened it as another.
                if not self._closing and self._selector.get_map().get(key.fd) is key:
                    key.data()
            if limited and time.monotonic() >= self._next_memory_check:
                self._check_memory()

    def _check_memory(self) -> None:
        self._next_memory_check = time.monotonic() + _MEMORY_CHECK_S
        for process in self._processes.values():
            if process.memory_bytes and process.pid and not process.verdict:
                used = sessions.memory_bytes(process.pid)
                if used > process.memory_bytes:
                    limit = f"its limit of {process.memory_bytes / 2**20:.0f} MiB"
                    process.verdict = f"took {used / 2**20:.0f} MiB of memory, past {limit}, and was killed"
                    self._signal(process.name, signal.SIGKILL, alone=False)

    def _start(self, spec: ProcessSpec, attempt: int, boot: dict[str, Any], fds: Sequence[int]) -> None:
        env = {**os.environ, **dict(spec.env), sessions.COOKIE: sessions.make_cookie(self._run_id, spec.name, attempt)}
        interpreter = spec.interpreter or sys.executable
        try:
            zygote = self._zygote_for(interpreter, spec.interpreter_args, env)
            process = _Process(spec.name, attempt, zygote, deque(maxlen=_LAST_LINES), memory_bytes=spec.memory_bytes)
            write_ends = self._open_pipes(process, merge=spec.merge_stderr)
        except OSError as error:
            _close(fds)
            self._fail_start(spec.name, attempt, f"cannot run {interpreter}: {error}")
            return
        request = f"{spec.name}@{attempt}"
        self._processes[request] = process
        boot.update(name=spec.name, argv=list(spec.argv), env=env, cwd=spec.cwd or str(Path.cwd()), attempt=attempt)
        boot.update(cpus=spec.cpus, pipes=len(write_ends))
        boot.setdefault("entry", _ENTRY if spec.payload else None)
        boot["payload"] = dataclasses.asdict(spec.payload) if spec.payload else None
        with contextlib.suppress(OSError):  # a dead zygote is reported by its socket
            zygote.channel.send({"op": "spawn", "id": request, "boot": boot}, (*write_ends, *fds))
        _close((*write_ends, *fds))

    def _open_pipes(self, process: _Process, *, merge: bool) -> tuple[int, ...]:
        ends: list[int] = []
        streams = ("stdout",) if merge else ("stdout", "stderr")
        try:
            for _ in streams:
                ends.extend(os.pipe())
        except OSError:
            _close(ends)
            raise
        write_ends = []
        for stream, read_end, write_end in zip(streams, ends[::2], ends[1::2], strict=True):
            os.set_blocking(read_end, False)
            process.pipes[read_end] = stream
            process.partial[read_end] = b""
            self._selector.register(read_end, selectors.EVENT_READ, lambda fd=read_end: self._on_output(process, fd))
            write_ends.append(write_end)
        return tuple(write_ends)

    def _fail_start(self, name: str, attempt: int, reason: str) -> None:
        self._events.on_line(name, f"kourou: {reason}", "stderr")
        self._events.on_exited(name, attempt, ProcessExit(code=127, last_lines=(reason,)))

    def _zygote_for(self, interpreter: str, options: tuple[str, ...], env: Mapping[str, str]) -> ZygoteProcess:
        """The zygote for an interpreter, its options, and the variables that only a starting interpreter reads."""
        prefixes = (*_READ_AT_START, *self._preload.reads)
        early = {name: value for name, value in env.items() if name.startswith(prefixes)}
        key = (interpreter, options, tuple(sorted(early.items())))
        zygote = self._zygotes.get(key)
        if zygote is None:
            variables = {**os.environ, **early, sessions.COOKIE: sessions.make_cookie(self._run_id)}
            log_file = self._folder / f"zygote-{len(self._zygotes)}.log"
            zygote = self._zygotes[key] = start_zygote(interpreter, options, variables, self._preload, log_file)
            self._selector.register(zygote.channel, selectors.EVENT_READ, lambda: self._on_zygote(key, zygote))
        return zygote

    def _on_zygote(self, key: tuple[Any, ...], zygote: ZygoteProcess) -> None:
        received = zygote.channel.receive()
        if received is None:
            self._bury_zygote(key, zygote)
            return
        message, _ = received
        if message["event"] == "ready":
            zygote.ready = True
            return
        process = self._processes.get(message.get("id", ""))
        if process is None:
            return
        if message["event"] == "spawned":
            process.pid = message["pid"]
            self._events.on_started(process.name, process.attempt, message["pid"])
        elif message["event"] == "exited":
            self._end(process, message["code"], message["signal"])
        elif message["event"] == "failed":
            self._events.on_line(process.name, f"kourou: cannot fork: {message['error']}", "stderr")
            self._end(process, 127, None)

    def _bury_zygote(self, key: tuple[Any, ...], zygote: ZygoteProcess) -> None:
        """A zygote died, which nothing of ours does to it: its nodes died with it, their children are swept here."""
        self._selector.unregister(zygote.channel)
        zygote.channel.close()
        self._zygotes.pop(key, None)
        code = zygote.popen.wait()
        for process in [p for p in self._processes.values() if p.zygote is zygote]:
            cookie = sessions.make_cookie(self._run_id, process.name, process.attempt)
            session = [pid for pid in sessions.members(process.pid) if pid != process.pid] if process.pid else []
            sessions.signal_all([*session, *sessions.escaped_from(cookie)])
            said = zygote.said() or ["it printed nothing"]
            process.last_lines.extend(said)
            words = said[-1]
            if zygote.ready:
                process.verdict = f"was lost, because the zygote that it came from ended with {code}: {words}"
            else:
                process.verdict = f"could not start: {zygote.interpreter} ended with {code}: {words}"
            self._end(process, None, signal.SIGKILL)

    def _on_output(self, process: _Process, fd: int) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close_pipe(process, fd)
            return
        *lines, rest = (process.partial[fd] + data).split(b"\n")
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        process.partial[fd] = rest
        for line in lines:
            self._tell_line(process, line, process.pipes[fd])

    def _tell_line(self, process: _Process, line: bytes, stream: str) -> None:
        # A progress bar redraws its line after a carriage return; the last drawing is the line.
        text = line.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode(errors="replace")
        process.last_lines.append(shortened(text, MOST_LINE_BYTES))
        self._events.on_line(process.name, text, stream)

    def _close_pipe(self, process: _Process, fd: int) -> None:
        if process.partial[fd]:
            self._tell_line(process, process.partial[fd], process.pipes[fd])
        self._selector.unregister(fd)
        os.close(fd)
        del process.pipes[fd], process.partial[fd]

    def _end(self, process: _Process, code: int | None, number: int | None) -> None:
        """The process and all below it are dead: take what its pipes still hold, then tell."""
        for fd in list(process.pipes):
            while fd in process.pipes and _has_data(fd):
                self._on_output(process, fd)
            if fd in process.pipes:
                self._close_pipe(process, fd)
        del self._processes[f"{process.name}@{process.attempt}"]
        record = ProcessExit(code=code, signal=number, last_lines=tuple(process.last_lines), verdict=process.verdict)
        self._events.on_exited(process.name, process.attempt, record)

    def _signal(self, name: str, number: int, *, alone: bool) -> None:
        for request, process in self._processes.items():
            if process.name == name:
                with contextlib.suppress(OSError):
                    process.zygote.channel.send({"op": "signal", "id": request, "number": number, "alone": alone})

    def _stop(self) -> None:
        self._closing = True
        for process in list(self._processes.values()):
            for fd in list(process.pipes):
                self._close_pipe(process, fd)
        for zygote in self._zygotes.values():
            zygote.channel.close()  # it ends all that is below it, then itself
        deadline = time.monotonic() + _CLOSE_S
        for zygote in self._zygotes.values():
            try:
                zygote.popen.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                sessions.signal_all([zygote.popen.pid, *sessions.descendants(zygote.popen.pid)])
                zygote.popen.wait()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _has_data(fd: int) -> bool:
    poller = selectors.DefaultSelector()
    with poller:
        poller.register(fd, selectors.EVENT_READ)
        return bool(poller.select(0))


# Read by a starting interpreter, loader or allocator, so a fork comes too late for them.
_READ_AT_START = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_TUNABLES")
_ENTRY = "kourou.runtime.worker"  # the life of a node
