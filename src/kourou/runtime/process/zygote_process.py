"""A zygote and its processes, as the supervisor that starts them sees them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from kourou.runtime.interpreter.startup import path_for
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.output.output_pipes import OutputPipes
from kourou.runtime.process import process_table
from kourou.runtime.process.channel import Channel
from kourou.runtime.process.preload import Preload

if sys.platform != "win32":
    import resource

# -c and not -m: sys.path must be the launcher's before anything is imported, or a module of the working folder could
# stand in for one of the standard library's.
_BOOT = (
    "import gc, sys; gc.disable(); {path}; from {zygote} import main; main({fd}, preload={preload}, version={version})"
)
_ZYGOTE = "kourou.runtime.process.zygote"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """A process that is to be started."""

    spec: ProcessSpec
    attempt: int
    boot: Mapping[str, Any]
    env: Mapping[str, str]
    fds: tuple[int, ...]
    """What it inherits; open until it was passed on."""

    def cancel(self) -> None:
        """It never will be."""
        for fd in self.fds:
            os.close(fd)


@dataclasses.dataclass
class ZygoteProcess:
    """It ends, and all below it, when its channel is closed.

    It imports what nodes need from its start on; whose it is, it is told when that is known.
    """

    channel: Channel
    popen: subprocess.Popen[bytes]
    interpreter: str
    first_words: BinaryIO
    """What it prints until then, in a file without a name."""
    log_file: Path | None = None
    """Where it prints from then on, which it does only when something is wrong."""
    said: list[str] = dataclasses.field(default_factory=list)
    """All of it, once it has ended."""
    libraries: tuple[str, ...] = ()
    """What it imports that may turn out not to be forkable: it gets its first request when it is ready."""
    ready: bool = False
    awaits_room: bool = False
    """Its owner's selector tells when the channel takes more."""
    waiting: dict[str, Start] = dataclasses.field(default_factory=dict)
    """What it does not take yet, in order, by the ids of the requests."""

    @property
    def is_trying(self) -> bool:
        """It imports what may turn out not to be forkable, has no process yet, and hears of nothing meanwhile."""
        return bool(self.libraries) and not self.ready

    @property
    def takes_requests(self) -> bool:
        """It has room for one, and whatever happens to it now happens to its processes."""
        return not self.channel.wants_write and not self.is_trying

    def begin(self, cookie: str, libraries: tuple[str, ...], log_file: Path) -> None:
        """Say whose it is, what it is to import as well, and where to print.

        Raises:
            OSError: the file cannot be made.
        """
        self.log_file, self.libraries = log_file, libraries
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)  # the launcher may have raised them since
        self.channel.send({"cookie": cookie, "libraries": libraries, "descriptors": limits}, (log,))

    def kill(self) -> None:
        """End it, and all below it, at once."""
        process_table.signal_all([self.popen.pid, *process_table.ProcessTable().below(self.popen.pid)])

    def end(self) -> None:
        """It is not needed: end it at once."""
        self.channel.close()
        self.kill()  # it may be importing
        self.wait()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end, and see what it said; its exit code.

        Raises:
            subprocess.TimeoutExpired: it does not end.
        """
        code = self.popen.wait(timeout_s)
        with contextlib.suppress(OSError), self.first_words:
            self.first_words.seek(0)
            said = self.first_words.read() + (self.log_file.read_bytes() if self.log_file else b"")
            self.said = said.decode(errors="replace").strip().splitlines()
        return code


@dataclasses.dataclass(kw_only=True)
class Process:
    """One that was asked for, or exists."""

    name: str
    attempt: int
    zygote: ZygoteProcess
    output: OutputPipes
    memory_bytes: int | None
    pid: int | None = None
    cause: str = ""  # why it was killed by the supervisor itself

    @property
    def request(self) -> str:
        """The id of the request to start it."""
        return request_id(self.name, self.attempt)


def request_id(name: str, attempt: int) -> str:
    """What messages call a process."""
    return f"{name}@{attempt}"


def start_zygote(
    interpreter: str,
    options: tuple[str, ...],
    env: Mapping[str, str],
    preload: Preload,
) -> ZygoteProcess:
    """Start one, for :meth:`ZygoteProcess.begin` to go on.

    Raises:
        OSError: the interpreter cannot be run.
    """
    ours, theirs = socket.socketpair()
    where, paths = path_for(interpreter)
    code = _BOOT.format(
        path=f"{where} = {json.dumps(paths)}",
        zygote=_ZYGOTE,
        fd=theirs.fileno(),
        preload=preload.modules,
        version=tuple(sys.version_info[:2]),
    )
    first_words = _nameless_file()
    try:
        with theirs:
            popen = subprocess.Popen(
                [interpreter, *options, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=first_words,
                stderr=first_words,
                pass_fds=[theirs.fileno()],
                env=env,
                start_new_session=True,  # a signal to the launcher's group must not hit the one that cleans up
            )
    except BaseException:
        ours.close()
        first_words.close()
        raise
    return ZygoteProcess(Channel(ours), popen, interpreter, first_words)


def _nameless_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("kourou-zygote", os.MFD_CLOEXEC), "w+b")
    import tempfile  # noqa: PLC0415 - macOS

    return tempfile.TemporaryFile()
