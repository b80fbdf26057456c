"""Starting an agent on another host with the system's ssh: the user's configuration, keys, jumps and masters hold."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.runtime.agent import PING
from kourou.runtime.agent_wire import Wire

__all__ = ["SshAgent", "SshOptions"]

_SHARE_OF_SILENCE = 4  # so many signs of life are sent in the time after which silence means death
_END_S = 5.0  # an agent that does not end this long after its connection closed is left to its own watch
_WORDS_BYTES = 1 << 16
_WORDS = 20  # lines of what ssh and the agent said


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshOptions:
    """How hosts are reached."""

    config_file: str | None = None
    """For ssh's -F; None: the user's and the system's."""
    timeout_s: float = 60.0
    """For a host to answer, and for silence to mean that it is lost."""
    cwd: str
    """The working folder there; it has to exist."""


class SshAgent:
    """One agent, and the ssh process that leads to it. Its owner closes it.

    Args:
        host: as the user named it.
        options: how to reach it.
        entry: the service's module, see :mod:`kourou.runtime.agent`.
        on_message: called with every message, from this object's thread; must return quickly.
        on_lost: called once with the error, unless it was closed.
    """

    def __init__(
        self,
        host: str,
        options: SshOptions,
        *,
        entry: str,
        on_message: Callable[..., None],
        on_lost: Callable[[errors.AgentFailedError], None],
    ) -> None:
        self.host = host
        self._options = options
        self._on_message = on_message
        self._on_lost = on_lost
        self._closed = False
        self._ready = threading.Event()
        self._error: errors.AgentFailedError | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the agent
        try:
            self._popen = subprocess.Popen(
                ssh_command(host, options, entry),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is the launcher's to hear
            )
        except OSError as error:
            self._said.close()
            raise self._failure(f"ssh cannot be run: {error}") from error
        assert self._popen.stdin is not None  # noqa: S101 - asked for above
        assert self._popen.stdout is not None  # noqa: S101 - likewise
        self._wire = Wire(self._popen.stdout.fileno(), self._popen.stdin.fileno())
        self._thread = threading.Thread(target=self._listen, name=f"kourou-agent-{host}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """It cannot be used any more."""
        return self._error is not None or self._closed

    def await_ready(self) -> None:
        """Wait until the agent is there.

        Raises:
            AgentFailedError: it is not, with ssh's own words.
        """
        # ssh gives up by itself after the same time, and says why; a moment more lets its words arrive.
        if not self._ready.wait(self._options.timeout_s + 1) and self._error is None:
            self._lose("no agent answered in time")
        if self._error is not None:
            raise self._error

    def send(self, *message: Any) -> None:
        """Tell the agent something. One that is gone is told of by ``on_lost``."""
        with contextlib.suppress(OSError, ValueError):
            self._wire.send(*message)

    def close(self) -> None:
        """End the agent and all that it runs. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            assert self._popen.stdin is not None  # noqa: S101 - asked for when it was started
            self._popen.stdin.close()  # ssh passes this on, and ends with the agent
        try:
            self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._thread is not threading.current_thread():
            self._thread.join()
        assert self._popen.stdout is not None  # noqa: S101 - asked for when it was started
        self._popen.stdout.close()
        self._said.close()

    def _listen(self) -> None:
        pause_s = self._options.timeout_s / _SHARE_OF_SILENCE
        try:
            if not self._wire.skip_preamble():
                self._lose("its agent did not start")
                return
            self._ready.set()
            self.send(PING)
            next_ping = time.monotonic() + pause_s
            while not self._closed:
                if self._wire.is_readable(max(0.0, next_ping - time.monotonic())):
                    message = self._wire.receive()
                    if message is None:
                        break
                    self._on_message(*message)
                if time.monotonic() >= next_ping:
                    self.send(PING)
                    next_ping = time.monotonic() + pause_s
        except (OSError, ValueError):
            pass  # it was closed meanwhile, or ssh died
        self._lose("the connection to its agent broke")

    def _lose(self, what: str) -> None:
        if self._closed or self._error is not None:
            return
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
                os.pread(self._said.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace").split("\n")
            )
        told = "\n".join(f"    {line}" for line in words[-_WORDS:] if line.strip())
        error = errors.AgentFailedError(f"{self.host}: {what}" + (f"; ssh said:\n{told}" if told else ""))
        error.hostname = self.host
        return error


def ssh_command(host: str, options: SshOptions, entry: str) -> list[str]:
    """The command that starts an agent. The remote shell sees one quoted Python program and no secret."""
    alive_s = max(1, int(options.timeout_s / _SHARE_OF_SILENCE))
    paths = [str(Path(path).absolute()) for path in sys.path]
    code = (
        f"import sys; sys.path[:] = {json.dumps(paths)}; "
        f"from kourou.runtime.agent import main; main({entry!r}, {options.timeout_s!r})"
    )
    python = shlex.join([sys.executable, "-u", "-c", code])
    return [
        "ssh",
        *(["-F", options.config_file] if options.config_file else []),
        *("-o", "BatchMode=yes"),  # a question would go to a terminal that nobody looks at
        *("-o", f"ConnectTimeout={max(1, int(options.timeout_s))}"),
        *("-o", f"ServerAliveInterval={alive_s}"),
        *("-o", f"ServerAliveCountMax={_SHARE_OF_SILENCE - 1}"),
        *("-T", "-x", "-a"),
        "--",
        host,
        f"cd {shlex.quote(options.cwd)} && exec {python}",
    ]
