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
from typing import Any

from kourou.runtime.interpreter.startup import path_for
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.output.output_pipes import OutputPipes
from kourou.runtime.process import process_table
from kourou.runtime.process.channel import Channel
from kourou.runtime.process.preload import Preload

# -c and not -m: sys.path must be the launcher's before anything is imported, or a module of the working folder could
# stand in for one of the standard library's.
_BOOT = (
    "import gc, sys; gc.disable(); {path}; from {zygote} import main; "
    "main({fd}, preload={preload}, libraries={libraries}, version={version})"
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
    """It ends, and all below it, when its channel is closed."""

    channel: Channel
    popen: subprocess.Popen[bytes]
    interpreter: str
    log_file: Path
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

    def kill(self) -> None:
        """End it, and all below it, at once."""
        process_table.signal_all([self.popen.pid, *process_table.ProcessTable().below(self.popen.pid)])

    def said(self) -> list[str]:
        """What it printed, which it does only when something is wrong."""
        with contextlib.suppress(OSError):
            return self.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return []


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
    libraries: tuple[str, ...],
    log_file: Path,
) -> ZygoteProcess:
    """Start one.

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
        libraries=libraries,
        version=tuple(sys.version_info[:2]),
    )
    try:
        with theirs, log_file.open("ab") as log:
            popen = subprocess.Popen(
                [interpreter, *options, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=env,
                start_new_session=True,  # a signal to the launcher's group must not hit the one that cleans up
            )
    except BaseException:
        ours.close()
        raise
    return ZygoteProcess(Channel(ours), popen, interpreter, log_file, libraries)
