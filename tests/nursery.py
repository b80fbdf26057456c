"""Processes that run a piece of Python each, forked from one that has imported what they need.

To start an interpreter that imports NumPy and kourou takes a fifth of a second, and a fork a few milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import IO

__all__ = ["Forked", "Nursery", "serve"]


class Forked(contextlib.AbstractContextManager["Forked"]):
    """A process, as ``subprocess.Popen`` would show it; its ``with`` ends with its end."""

    def __init__(self, stdin: IO[str], stdout: IO[str], status: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._status = status
        self.pid = int.from_bytes(os.read(status, 4), "big")
        assert self.pid, "the nursery has ended"
        self.returncode: int | None = None

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self.stdout.close()
        self.wait()

    def poll(self) -> int | None:
        """How it ended, if it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """How it ended: its exit code, or a signal's number below 0."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["fork"], timeout or 0)
            told = os.read(self._status, 4)
            os.close(self._status)
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(told, "big")) if told else -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> str:
        """What it prints until its end, when its input has ended."""
        self.stdin.close()
        with self.stdout:
            printed = self.stdout.read()
        self.wait(timeout)
        return printed


class Nursery(contextlib.AbstractContextManager["Nursery"]):
    """The process that is forked.

    Args:
        modules: what it imports.
    """

    def __init__(self, *modules: str) -> None:
        self._control, theirs = socket.socketpair()
        serving = f"import nursery; exec(nursery.serve({theirs.fileno()}, {modules}))"
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serving}"]
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait()

    def start(self, code: str, *arguments: str, file: Path | None = None, stderr: IO[str] | None = None) -> Forked:
        """Run ``python -c code arguments`` here, or a file that has this code in its folder."""
        request = {
            "code": code,
            "argv": [str(file or "-c"), *arguments],
            "file": file and str(file),
            "cwd": str(file.parent if file else Path.cwd()),
            "env": dict(os.environ),
        }
        stdin_r, stdin_w = os.pipe()
        stdout_r, stdout_w = os.pipe()
        status_r, status_w = os.pipe()
        with tempfile.TemporaryFile("w+") as asked:
            json.dump(request, asked)
            asked.flush()
            given = [asked.fileno(), stdin_r, stdout_w, stderr.fileno() if stderr else 2, status_w]
            socket.send_fds(self._control, [b"x"], given)
        for fd in (stdin_r, stdout_w, status_w):
            os.close(fd)
        return Forked(os.fdopen(stdin_w, "w"), os.fdopen(stdout_r), status_r)


def serve(control_fd: int, modules: Sequence[str]) -> types.CodeType:
    """Be the nursery until its owner is gone; returns in forks only, with what each is to execute."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    control = socket.socket(fileno=control_fd)
    wake_r, wake_w = os.pipe()
    for fd in (wake_r, wake_w):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, int] = {}  # pid → where its end is told
    while True:
        ready, _, _ = select.select([control.fileno(), wake_r], [], [])
        if wake_r in ready:
            os.read(wake_r, 4096)
            _reap(living)
        if control.fileno() not in ready:
            continue
        word, given, *_ = socket.recv_fds(control, 1, 5)
        if not word:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            for fd in (wake_r, wake_w, *living.values(), given[-1]):
                os.close(fd)
            return _become(*given[:-1])
        os.write(given[-1], pid.to_bytes(4, "big"))
        living[pid] = given[-1]
        for fd in given[:-1]:
            os.close(fd)


def _reap(living: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = living.pop(ended[0])
            with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
                os.write(status, ended[1].to_bytes(4, "big"))
            os.close(status)


def _become(asked: int, *streams: int) -> types.CodeType:
    """What this process is to execute, which is like one that was started for it alone."""
    os.lseek(asked, 0, os.SEEK_SET)
    with os.fdopen(asked) as file:
        request = json.load(file)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    main = vars(sys.modules["__main__"])
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    if request["file"]:
        main["__file__"] = request["file"]
        sys.path.insert(0, str(Path(request["file"]).parent))
    return compile(request["code"], request["file"] or "<string>", "exec", dont_inherit=True)
