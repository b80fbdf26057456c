"""An agent on another host, started with the system's ssh: the user's configuration, keys, jumps and masters hold."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kourou import errors, threads
from kourou.runtime.host_agent.liveness import HEARTBEATS, agents_patience_s, heartbeat_s
from kourou.runtime.host_agent.pipe_wire import Wire
from kourou.runtime.host_agent.session import UNREADABLE
from kourou.runtime.interpreter.startup import path_for
from kourou.runtime.waiting import long_waits
from kourou.shown import described
from kourou.waits import PATIENCE_S

_END_S = 5.0  # an agent that does not end this long after its connection closed is left to its own watch
_LOOK_S = 0.1  # how often to see whether it is not waited for any more
_WORDS_BYTES = 1 << 16
_WORDS = 20  # lines of what ssh and the agent said


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshOptions:
    """How hosts are reached."""

    config_file: str | None = None
    """For ssh's -F; None: the user's and the system's."""
    timeout_s: float = 60.0
    """For a host to answer."""
    max_silence_s: float | None = None
    """A host that says nothing for so long is lost; None: ``timeout_s``."""
    cwd: str
    """The working folder there; it has to exist. A relative one is below the user's home."""
    python: str | None = None
    """The interpreter there; None: this one's path."""
    sync: bool = False
    """``cwd`` is this machine's and has to be copied first; see :mod:`kourou.runtime.launchers.ssh.sync`."""
    tree: str | None = None
    """The folder here that ``cwd`` is a copy of; None: it is no copy."""
    local: bool = False
    """The host is this machine: the agent is started without ssh."""

    @property
    def silence_s(self) -> float:
        """The seconds of silence that mean that a host is lost."""
        return self.timeout_s if self.max_silence_s is None else self.max_silence_s


class SshAgent:
    """One agent, and the ssh process that leads to it. Its owner closes it.

    Args:
        on_message: called with every message, from this object's thread; must return quickly.
        on_lost: called once with the error, unless it was closed.
        on_full: see :class:`kourou.runtime.host_agent.session.Session`.
    """

    def __init__(
        self,
        host: str,
        options: SshOptions,
        *,
        entry: str,
        on_message: Callable[..., None],
        on_lost: Callable[[errors.AgentFailedError], None],
        on_full: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.host = host
        self._options = options
        self._on_message = on_message
        self._on_lost = on_lost
        self._closed = False
        self._ready = threading.Event()
        self._error: errors.AgentFailedError | None = None
        self._losing = threading.Lock()
        with contextlib.ExitStack() as undo:
            self._said = undo.enter_context(tempfile.TemporaryFile())
            try:
                self._popen = undo.enter_context(
                    subprocess.Popen(
                        agent_command(host, options, entry),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=self._said,
                        cwd=options.cwd if options.local else None,
                        env=_environment(local=options.local),
                        start_new_session=True,  # Ctrl-C is the launcher's to hear
                    )
                )
            except OSError as error:
                raise self._failure(f"ssh cannot be run: {error}") from error
            undo.callback(kill_session, self._popen)
            assert self._popen.stdin is not None  # noqa: S101 - a pipe
            assert self._popen.stdout is not None  # noqa: S101 - a pipe
            self._wire = wire = Wire(self._popen.stdout.fileno(), self._popen.stdin.fileno())
            undo.callback(wire.end, _END_S)
            wire.session.on_full = on_full
            # To the agent, each of which returns at once but for the last. That it is gone tells ``on_lost``.
            self.send, self.put, self.send_bulk = wire.send, wire.put, wire.send_bulk
            self._thread = threading.Thread(target=self._listen, name=f"kourou-agent-{host}", daemon=True)
            threads.start(self._thread)
            undo.pop_all()

    @property
    def lost(self) -> bool:
        """It cannot be used any more."""
        return self._error is not None or self._closed

    def await_ready(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until the agent is there.

        Args:
            check: called now and then; what it raises ends the waiting.

        Raises:
            AgentFailedError: it is not, with ssh's own words.
        """
        # ssh gives up by itself after the same time, and says why; a moment more lets its words arrive.
        with long_waits.warn_if_long(
            "still waiting for host %s: ssh has not connected, or the agent there not begun, for %g s; it is given up "
            "after %g s (ssh -v %s says where it hangs)",
            self.host,
            PATIENCE_S,
            self._options.timeout_s,
            self.host,
        ):
            until = time.monotonic() + self._options.timeout_s + 1
            while not self._ready.wait(_LOOK_S) and time.monotonic() < until:
                check()
        if not self._ready.is_set():
            self._lose("no agent answered in time", kill=True)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the agent and all that it runs. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if not self._ready.is_set():
            kill_session(self._popen)  # which is connecting, and would go on; an agent that is just there hears of it
        self._hang_up()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _hang_up(self) -> None:
        """Say no more, and wait for ssh's end. Thread-safe, idempotent."""
        while not self._wire.end(_END_S):  # somebody writes into a connection that takes nothing any more
            self._popen.kill()
        with contextlib.suppress(OSError):
            assert self._popen.stdin is not None  # noqa: S101 - asked for when it was started
            self._popen.stdin.close()  # ssh passes this on, and ends with the agent
        try:
            self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _listen(self) -> None:
        try:
            if not self._wire.skip_preamble():
                self._lose("its agent did not start")
                return
            self._ready.set()
            # By the wire's own thread: what is done with a message may take longer than an agent's patience.
            self._wire.keep_alive(heartbeat_s(self._options.silence_s))
            self._receive()
        except (OSError, ValueError):
            pass  # it was closed meanwhile, or ssh died
        finally:
            self._lose("the connection to its agent broke")
            self._hang_up()  # one that is lost may not be closed before its program ends
            assert self._popen.stdout is not None  # noqa: S101 - asked for when it was started
            self._popen.stdout.close()
            self._said.close()

    def _receive(self) -> None:
        silence_s = self._options.silence_s
        while not self.lost:
            # ssh notices a dead connection, too; but not where it is a guest on another one's (ControlMaster).
            if not self._wire.is_readable(silence_s):
                self._lose(f"its agent said nothing for {silence_s:g} s", kill=True)
                return
            messages = self._wire.receive()
            if messages is None:
                return
            for message in messages:
                self._take(*message)
                if self.lost:
                    return

    def _take(self, kind: str, *arguments: Any) -> None:
        """What follows a message that cannot be used makes no sense."""
        try:
            if kind == UNREADABLE:
                raise arguments[0]  # noqa: TRY301 - as if its use had raised it
            self._on_message(kind, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            self._lose(f"{kind}: {described(error)}", kill=True)

    def _lose(self, what: str, *, kill: bool = False) -> None:
        with self._losing:  # whoever waits for it, and whoever listens, may find that out at once
            if self._closed or self._error is not None:
                self._ready.set()
                return
            if kill:  # it would not end by itself
                kill_session(self._popen)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(1.0)  # its last words are complete then
            self._error = self._failure(what)
        self._ready.set()
        self._on_lost(self._error)

    def _failure(self, what: str) -> errors.AgentFailedError:
        words = []
        with contextlib.suppress(OSError, ValueError):
            size = os.fstat(self._said.fileno()).st_size
            words = (
                os.pread(self._said.fileno(), _WORDS_BYTES, max(0, size - _WORDS_BYTES))
                .decode(errors="replace")
                .split("\n")
            )
        told = "\n".join(f"    {line}" for line in words[-_WORDS:] if line.strip())
        if "cd: " in told:  # what shells say when their folder is not there
            told += "\n  sync='rsync' copies the working folder to hosts that do not share this one's file system"
        error = errors.AgentFailedError(f"{self.host}: {what}" + (f"; ssh said:\n{told}" if told else ""))
        error.hostname = self.host
        return error


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process that leads a session, and to what it started there, such as an ssh to a jump host."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # another thread has just heard of its end
            os.killpg(process.pid, signal.SIGKILL)


def agent_command(host: str, options: SshOptions, entry: str) -> list[str]:
    """The command that starts an agent. The remote shell sees one quoted Python program and no secret."""
    code = f"{_path_statement(options)}; from kourou.runtime.host_agent.pipe_agent import main; "
    code += f"main({entry!r}, {agents_patience_s(options.silence_s)!r})"
    python = [options.python or sys.executable, "-u", "-c", code]
    if options.local:
        return python
    remote = f"cd {shlex.quote(options.cwd)} && exec {shlex.join(python)}"
    return ["ssh", *ssh_arguments(options), "-T", "--", host, remote]


def _environment(*, local: bool) -> dict[str, str]:
    """An agent of this machine must not take the user's own connection to it for one of its launcher's."""
    return {name: value for name, value in os.environ.items() if not (local and name == "SSH_CONNECTION")}


def ssh_arguments(options: SshOptions) -> list[str]:
    """The options that every ssh to a host gets."""
    alive_s = max(1, int(heartbeat_s(options.silence_s)))
    return [
        *(["-F", options.config_file] if options.config_file else []),
        *("-o", "BatchMode=yes"),  # a question would go to a terminal that nobody looks at
        *("-o", f"ConnectTimeout={max(1, int(options.timeout_s))}"),
        *("-o", f"ServerAliveInterval={alive_s}"),
        *("-o", f"ServerAliveCountMax={HEARTBEATS - 1}"),
        *("-x", "-a"),
    ]


def _path_statement(options: SshOptions) -> str:
    """The statement that gives an agent the launcher's ``sys.path``; what was copied comes from the copy."""
    where, paths = path_for(options.python or sys.executable)
    if options.tree is not None:
        paths = [_below(path, options.tree) or path for path in paths]
    return f"import os, sys; {where} = [os.path.abspath(p) for p in {json.dumps(paths)}]"


def _below(path: str, tree: str) -> str | None:
    """A path of the tree, as the copy's own folder knows it; None when it is none."""
    with contextlib.suppress(ValueError):
        return f"./{Path(path).relative_to(tree)}"
    return None
