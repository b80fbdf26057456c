"""The supervisor: starts the processes of one host, reads what they print, and knows how each of them ended.

It runs one thread, which owns the zygotes, the pipes and the table of processes; other threads hand it commands. It
waits for nothing but the next event, so that signals are passed on at any time. The same class serves a launcher and an
agent on another host; there is no second way to start a process.
"""

from __future__ import annotations

import contextlib
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
from typing import Any, Protocol

from kourou import errors, threads
from kourou.closing import ClosedAtExit
from kourou.limits import with_remedy
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import FOR_IT_ALONE, NOT_STARTED, ProcessExit
from kourou.runtime.node_environment import complete
from kourou.runtime.output.output_pipes import OutputPipes
from kourou.runtime.process import process_table
from kourou.runtime.process.memory_limit import MemoryLimits
from kourou.runtime.process.outputs import Outputs
from kourou.runtime.process.preload import NODES, Preload
from kourou.runtime.process.zygote_process import Process, Start, ZygoteProcess, request_id
from kourou.runtime.process.zygotes import Zygotes
from kourou.working_folder import working_folder

_log = logging.getLogger(__name__)

_CLOSE_S = 5.0  # a zygote that does not end this long after its socket closed is killed


class ProcessEvents(Protocol):
    """What the supervisor tells; called from its own thread, so each must return quickly."""

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """The process exists."""

    def on_line(self, name: str, line: str, stream: str) -> None:
        """It printed a line; ``stream`` is "stdout" or "stderr"."""

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """It ended, all its lines were told, and nothing that it started is left."""


class Supervisor(ClosedAtExit):
    """Owner of the processes of one host. Use it in a ``with``, or call :meth:`close`.

    Raises:
        UnsupportedPlatform: it is neither Linux nor macOS.
        LaunchError: there is no /proc.
    """

    events: ProcessEvents
    """Who is told; there is nothing to be told before the first start."""

    def __init__(
        self,
        events: ProcessEvents | None = None,
        *,
        run_id: str | None = None,
        folder: Path | None = None,
        preload: Preload = NODES,
    ) -> None:
        if not sys.platform.startswith(("linux", "darwin")):
            raise errors.UnsupportedPlatform(
                f"kourou starts processes on Linux and macOS, not on {sys.platform}; local_mt works here"
            )
        process_table.check_proc()
        if events is not None:
            self.events = events
        self._zygotes = Zygotes(preload)
        if run_id is not None and folder is not None:
            self.belong_to(run_id, folder)
        self._processes: dict[str, Process] = {}  # by the id of the spawn request
        self._latest: dict[str, tuple[ZygoteProcess, int]] = {}  # by name: where from, and which attempt
        self._inherited: dict[str, str] = {}  # by processes that are started now
        self._commands: deque[Callable[[], None]] = deque()
        self._asked: dict[tuple[str, int], None] = {}  # starts among them
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, self._on_wake)
        self._closing = False
        self._outputs = Outputs(self._selector)
        self._memory = MemoryLimits()
        self._fault: Exception | None = None  # what ended the thread too early
        self._thread = threading.Thread(target=self._loop, name="kourou-supervisor", daemon=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self._let_go)
            threads.start(self._thread)
            undo.pop_all()

    def start_ahead(self) -> None:
        """Start what plain nodes are forked from, though it is not known yet whose they will be."""
        self._post(self._start_ahead)

    def _start_ahead(self) -> None:
        with contextlib.suppress(OSError):  # the first start of a node says what is wrong
            self._zygotes.start_ahead()

    def belong_to(self, run_id: str, folder: Path) -> None:
        """Say whose processes these are, and where what they are forked from has its logs; before the first of them."""
        self._zygotes.run_id, self._zygotes.folder = run_id, folder

    def prepare(self, *specs: ProcessSpec) -> None:
        """Start the zygotes that processes will need, those of plain nodes by default; meanwhile the caller goes on."""
        self._post(lambda: self._prepare(specs or (ProcessSpec(name="", argv=()),)))

    def _prepare(self, specs: Sequence[ProcessSpec]) -> None:
        with contextlib.suppress(OSError):  # the first start of a node says what is wrong
            inherited = dict(os.environ)
            alike = {(spec.interpreter, spec.interpreter_args, spec.preload, spec.env): spec for spec in specs}
            for spec in alike.values():
                self._zygote_for(spec, {**inherited, **dict(spec.env)})
        self._zygotes.drop_ahead()

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Start a process; ``on_started`` or ``on_exited`` follows.

        Args:
            spec: what to start.
            attempt: 1 for the first start.
            boot: what the process needs beside it (addresses, folders); JSON-able. ``entry`` names the module whose
                ``run(boot)`` is the process's life, and returns its exit code; by default that of a node, where there
                is a payload, and none where the spec is a command.
            fds: descriptors that the process inherits, as ``boot["fds"]``; they are closed here.
        """
        asked = spec.name, attempt
        self._asked[asked] = None  # first: if this thread sees no fault, the other one sees this
        try:
            self._post(lambda: self._start(spec, attempt, boot, fds))
        except BaseException:
            self._asked.pop(asked, None)
            raise

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and all that it started, or to it alone (``records.FOR_IT_ALONE``).

        One that was not begun yet never will be, and ends as if by the signal; after one that is for it alone, which
        only asks for an end, as if it had come to it by itself.
        """
        self._post(lambda: self._signal(name, number))

    def pause_output(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Read no more of what processes print, so that those who print much wait; or read on."""
        with contextlib.suppress(errors.LaunchError):  # there is nothing to hold any more
            self._post(lambda: self._outputs.pause(paused=paused))

    def close(self) -> None:
        """Kill what still runs and end the zygotes. Idempotent."""
        if not self._closing:
            self._post(self._stop)
        self._thread.join()

    def _post(self, command: Callable[[], None]) -> None:
        if self._fault is not None:
            raise errors.LaunchError("processes cannot be started or signalled any more") from self._fault
        self._commands.append(command)
        with contextlib.suppress(OSError):  # it is about to wake, or has ended
            self._wake_w.send(b"\0")

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_r.recv(4096)
        self._inherited = dict(os.environ)  # once for all that are started together: it is decoded anew each time
        while self._commands:
            self._commands.popleft()()

    def _loop(self) -> None:
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever for what it ended
            self._fail(error)
        self._let_go()

    def _let_go(self) -> None:
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _fail(self, error: Exception) -> None:
        """A fault of ours: end all processes and say so."""
        _log.exception("the supervisor failed")
        self._closing = True
        self._fault = error
        cause = f"was lost to a fault of kourou itself: {error!r}"
        lost = {asked: deque[str]() for asked in list(self._asked)}
        for zygote in self._zygotes:
            lost |= {(start.spec.name, start.attempt): deque[str]() for start in zygote.waiting.values()}
        lost |= {(process.name, process.attempt): process.output.last_lines for process in self._processes.values()}
        with contextlib.suppress(Exception):
            self._stop()
        for (name, attempt), lines in lost.items():
            record = ProcessExit(code=None, signal=signal.SIGKILL, last_lines=tuple(lines), cause=cause)
            try:
                self.events.on_exited(name, attempt, record)
            except Exception:  # noqa: BLE001 - the others want to be told, too
                _log.exception("nobody could be told that %s was lost", name)

    def _serve(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._memory.due_in_s):
                # An earlier event of the same batch may have closed this one's descriptor, and opened it as another.
                if not self._closing and self._selector.get_map().get(key.fd) is key:
                    key.data()
            for process in self._memory.passed():
                self._signal(process.name, signal.SIGKILL)
            for process, told in self._memory.near():
                self.events.on_line(process.name, f"kourou: {process.name} {told}", "stderr")

    def _start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any], fds: Sequence[int]) -> None:
        cookie = process_table.make_cookie(self._zygotes.run_id, spec.name, attempt)
        env = complete(self._inherited, spec.env, cookie)
        self._queue(Start(spec=spec, attempt=attempt, boot=boot, env=env, fds=tuple(fds)))
        self._asked.pop((spec.name, attempt), None)

    def _queue(self, start: Start) -> None:
        spec, attempt = start.spec, start.attempt
        try:
            zygote = self._zygote_for(spec, start.env)
        except OSError as error:
            start.cancel()
            interpreter = spec.interpreter or sys.executable
            self._fail_start(spec.name, attempt, f"cannot run {interpreter}: {with_remedy(error)}")
            return
        if news := self._zygotes.take_news():
            self.events.on_line(spec.name, f"kourou: {news}", "stderr")
        self._latest[spec.name] = zygote, attempt
        zygote.waiting[request_id(spec.name, attempt)] = start
        self._send_waiting(zygote)

    def _send_waiting(self, zygote: ZygoteProcess) -> None:
        """Send what the zygote takes. The others wait without a pipe, so hundreds need no descriptors all at once."""
        while zygote.waiting and zygote.takes_requests:
            self._spawn(zygote, zygote.waiting.pop(next(iter(zygote.waiting))))
        self._await_room(zygote)

    def _await_room(self, zygote: ZygoteProcess) -> None:
        if zygote.channel.wants_write is not zygote.awaits_room:
            zygote.awaits_room = zygote.channel.wants_write
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if zygote.awaits_room else 0)
            self._selector.modify(zygote.channel, events, self._selector.get_key(zygote.channel).data)

    def _spawn(self, zygote: ZygoteProcess, start: Start) -> None:
        spec, attempt = start.spec, start.attempt
        streams = ("stdout",) if spec.merge_stderr else ("stdout", "stderr")
        try:
            output = OutputPipes(streams, lambda line, stream: self.events.on_line(spec.name, line, stream))
        except OSError as error:
            start.cancel()
            self._fail_start(spec.name, attempt, f"cannot make its pipes: {with_remedy(error)}")
            return
        process = Process(name=spec.name, attempt=attempt, zygote=zygote, output=output, memory_bytes=spec.memory_bytes)
        self._processes[process.request] = process
        self._outputs.add(output)
        boot = {
            "entry": _ENTRY if spec.payload else None,
            **start.boot,
            "name": spec.name,
            "argv": list(spec.argv),
            "env": dict(start.env),
            "cwd": spec.cwd or str(working_folder()),
            "attempt": attempt,
            "cpus": spec.cpus,
            "pipes": len(output.write_ends),
            "payload": vars(spec.payload) if spec.payload else None,
        }
        zygote.channel.send({"op": "spawn", "id": process.request, "boot": boot}, (*output.write_ends, *start.fds))

    def _fail_start(self, name: str, attempt: int, reason: str) -> None:
        self.events.on_line(name, f"kourou: {reason}", "stderr")
        self.events.on_exited(name, attempt, ProcessExit.not_started(reason))

    def _zygote_for(self, spec: ProcessSpec, env: Mapping[str, str]) -> ZygoteProcess:
        zygote = self._zygotes.find(spec, env)
        if zygote.channel not in self._selector.get_map():
            self._selector.register(zygote.channel, selectors.EVENT_READ, lambda: self._on_zygote(zygote))
        return zygote

    def _on_zygote(self, zygote: ZygoteProcess) -> None:
        zygote.channel.flush()
        there = zygote.channel.receive()
        while not self._closing and (taken := zygote.channel.take()) is not None:
            message, _ = taken
            if message["event"] == "ready":
                zygote.ready = True
            elif (process := self._processes.get(message["id"])) is not None:
                self._on_event(process, message)
        if there:
            self._send_waiting(zygote)
        else:
            self._on_zygote_died(zygote)

    def _on_event(self, process: Process, message: dict[str, Any]) -> None:
        if message["event"] == "spawned":
            process.pid = message["pid"]
            self._memory.add(process)
            self.events.on_started(process.name, process.attempt, message["pid"])
        elif message["event"] == "exited":
            self._end(process, message["code"], message["signal"])
        elif message["event"] == "failed":
            process.cause = f"could not start: cannot fork: {message['error']}"
            self.events.on_line(process.name, f"kourou: {process.cause}", "stderr")
            self._end(process, NOT_STARTED, None)

    def _on_zygote_died(self, zygote: ZygoteProcess) -> None:
        """A zygote died, which nothing of ours does to it: its nodes died with it, their children are swept here."""
        self._selector.unregister(zygote.channel)
        zygote.channel.close()
        self._zygotes.remove(zygote)
        code = zygote.wait()
        if zygote.is_trying and not self._closing:
            self._zygotes.refuse(zygote, (zygote.said or [f"its zygote ended with {code}"])[-1])
            for start in zygote.waiting.values():
                self._queue(start)
            return
        while zygote.waiting:  # what it is told is lost, and so they end below
            self._spawn(zygote, zygote.waiting.pop(next(iter(zygote.waiting))))
        lost = [process for process in self._processes.values() if process.zygote is zygote]
        self._sweep(lost)
        for process in lost:
            said = zygote.said or ["it printed nothing"]
            process.output.last_lines.extend(said)
            words = said[-1]
            if zygote.ready:
                process.cause = f"was lost, because the zygote that it came from ended with {code}: {words}"
            else:
                process.cause = f"could not start: {zygote.interpreter} ended with {code}: {words}"
            self._end(process, None, signal.SIGKILL)

    def _sweep(self, dead: Sequence[Process]) -> None:
        """End what processes left behind that have no zygote any more."""
        pids = {process.pid for process in dead if process.pid is not None}
        table = process_table.ProcessTable()
        run_id = self._zygotes.run_id
        cookies = tuple(process_table.make_cookie(run_id, process.name, process.attempt) for process in dead)
        escaped = {*process_table.escaped_from(cookies)}
        process_table.signal_all((table.members(*pids) | table.marked(pids) | escaped) - pids)

    def _end(self, process: Process, code: int | None, number: int | None) -> None:
        """The process and all below it are dead: take what its pipes still hold, then tell."""
        self._outputs.finish(process.output)
        del self._processes[process.request]
        self._memory.discard(process)
        lines = tuple(process.output.last_lines)
        refused = f"kourou: cannot start {process.name}: "  # by the process itself, before it was anything
        if code == NOT_STARTED and lines and lines[-1].startswith(refused):
            process.cause = f"could not start: {lines[-1].removeprefix(refused)}"
        record = ProcessExit(code=code, signal=number, last_lines=lines, cause=process.cause)
        self.events.on_exited(process.name, process.attempt, record)

    def _signal(self, name: str, number: int) -> None:
        if name not in self._latest:
            return
        alone = number in FOR_IT_ALONE
        zygote, attempt = self._latest[name]
        request = request_id(name, attempt)
        if (start := zygote.waiting.pop(request, None)) is not None:
            start.cancel()
            ending = ProcessExit(code=0 if alone else None, signal=None if alone else number)
            self.events.on_exited(name, attempt, ending)
        elif request in self._processes:
            zygote.channel.send({"op": "signal", "id": request, "number": number, "alone": alone})
            self._await_room(zygote)

    def _stop(self) -> None:
        self._closing = True
        self._outputs.drop(tell=self._fault is None)  # telling may be what failed
        for zygote in self._zygotes:
            for start in zygote.waiting.values():
                start.cancel()
            zygote.channel.send({"op": "end"})
            zygote.channel.close()  # it ends all that is below it, then itself
            if zygote.is_trying:
                zygote.kill()
        self._zygotes.drop_ahead()
        deadline = time.monotonic() + _CLOSE_S
        for zygote in self._zygotes:
            try:
                zygote.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                zygote.kill()
                zygote.wait()


_ENTRY = "kourou.runtime.node_process.main"  # the life of a node
