"""A launcher in a process of its own, for tests in which the launcher's own fate matters."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from optional import psutil, pytest
from polling import WAIT_S, until

PRELUDE = """\
import ctypes, os, signal, subprocess, sys, threading, time
import kourou as lp

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write, so that no other process's text gets into it

def idle():
    while True:
        time.sleep(0.01)

"""

NODES = """
    def careful():
        say("running")
        try:
            idle()
        finally:
            print("cleaned up")

    def polling():
        say("running")
        lp.wait_for_stop()
        print("polled")

    def hopeless():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("running")
        while True:
            try:
                idle()
            except BaseException:
                pass

    def make(*functions):
        program = lp.Program("signals")
        for function in functions:
            program.add_node(lp.PyNode(function), label=function.__name__)
        return program

    quick = lp.StopTimeline(ask_s=0.2, interrupt_s=2.0, terminate_s=2.0)
    endless = lp.StopTimeline(ask_s=100.0)
"""
"""Functions for nodes of a launcher that is stopped, and ``make``, which makes a program of them."""


class Script(contextlib.AbstractContextManager["Script"]):
    """A Python script as a process; ends it at the end of the ``with``.

    Args:
        folder: where the script is written.
        source: its text; PRELUDE comes first.
        env: variables on top of this process's.
        options: of the interpreter.
    """

    def __init__(
        self, folder: Path, source: str, *, env: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self.path = folder / "launcher.py"
        self.path.write_text(PRELUDE + textwrap.dedent(source), encoding="utf-8")
        self._popen = subprocess.Popen(
            [sys.executable, *options, str(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
            start_new_session=True,  # so that a group signal of a test cannot reach pytest
        )
        self.process = psutil.Process(self._popen.pid)
        self.lines: list[str] = []
        self.error_lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._popen.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self._popen.stderr, self.error_lines)),
        ]
        for reader in self._readers:
            reader.start()

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def output(self) -> str:
        """What it printed so far."""
        return "\n".join(self.lines)

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return "\n".join(self.error_lines)

    def expect(self, pattern: str, within_s: float = WAIT_S) -> re.Match[str]:
        """Wait for a line of its output that contains ``pattern``."""

        def found() -> re.Match[str] | None:
            return next((m for line in list(self.lines) if (m := re.search(pattern, line))), None)

        def found_or_ended() -> re.Match[str] | bool | None:
            return found() or self._popen.poll() is not None

        until(found_or_ended, within_s, f"{pattern!r} in the output: {self.lines} {self.error_lines}")
        if (match := found()) is None:  # it ended: what it wrote last may still be in the pipe
            self._join_readers(within_s)
            match = found()
        assert match is not None, f"it ended with {self._popen.poll()} and never said {pattern!r}: {self._told()}"
        return match

    def expect_process(self, name: str, within_s: float = WAIT_S) -> psutil.Process:
        """Wait for the line ``name PID``, and return that process."""
        return psutil.Process(int(self.expect(rf"\b{re.escape(name)} (\d+)$", within_s)[1]))

    def signal(self, number: int) -> None:
        """Send a signal to the launcher alone."""
        self._popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the launcher's process group, as a terminal does."""
        os.killpg(self._popen.pid, number)

    def interrupt(self) -> None:
        """Ctrl-C, as far as the launcher can tell."""
        self.signal(signal.SIGINT)

    def end(self, within_s: float = WAIT_S) -> int:
        """Wait for its end; its exit code (negative: the signal)."""
        try:
            code = self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the launcher did not end within {within_s} s: {self._told()}") from None
        self._join_readers(within_s)
        return code

    def _join_readers(self, within_s: float) -> None:
        for reader in self._readers:
            reader.join(within_s)

    def _told(self) -> str:
        return f"\n--- stdout\n{self.output}\n--- stderr\n{self.errors}"

    @staticmethod
    def _read(pipe: IO[str] | None, into: list[str]) -> None:
        assert pipe is not None
        for line in pipe:
            into.append(line.rstrip("\n"))


def all_run(launcher: Script, count: int) -> None:
    """Wait until so many nodes said that they run."""
    until(lambda: sum("running" in line for line in launcher.lines) == count, WAIT_S, "all nodes")


BOTH = pytest.mark.parametrize("kind", ["local_mp", "local_mt"])


def run_as(tmp_path, kind, source, *, code=0, within_s=WAIT_S):
    """Run a script that launches a program as ``KIND``; what it printed, all in one."""
    with Script(tmp_path, f"KIND = {kind!r}\n{textwrap.dedent(source)}") as launcher:
        assert launcher.end(within_s) == code, launcher.errors
        return "\n".join([*launcher.lines, *launcher.error_lines])
