"""The zygotes of one supervisor: which of them a process is forked from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kourou.cpython import interpreter_options
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.node_environment import COOKIE
from kourou.runtime.process import process_table
from kourou.runtime.process.preload import Preload, read_early
from kourou.runtime.process.zygote_process import ZygoteProcess, start_zygote

_Key = tuple[Any, ...]


class Zygotes:
    """One for each interpreter, its options, what it has imported, and the variables that come too late for a fork.

    Libraries that turn out not to be forkable are left to each process from then on.

    Attributes:
        run_id: whose processes they fork; from their first process on.
        folder: where their logs are; likewise.
    """

    run_id: str
    folder: Path

    def __init__(self, preload: Preload) -> None:
        self._preload = preload
        self._zygotes: dict[_Key, ZygoteProcess] = {}
        self._ahead: tuple[ZygoteProcess, Mapping[str, str]] | None = None  # with the variables that it has
        self._begun = 0
        self._refused: dict[tuple[str, tuple[str, ...]], str] = {}  # interpreter and libraries → why
        self._untold: list[str] = []

    def __iter__(self) -> Iterator[ZygoteProcess]:
        return iter(self._zygotes.values())

    def start_ahead(self) -> None:
        """Start one for plain processes of this interpreter, though it is not known yet whose they will be.

        Raises:
            OSError: the interpreter cannot be run.
        """
        env = dict(os.environ)
        self._ahead = self._start(sys.executable, interpreter_options(), env), env

    def drop_ahead(self) -> None:
        """End the one that was started ahead, unless somebody needed it."""
        if self._ahead is not None:
            zygote, _ = self._ahead
            self._ahead = None
            zygote.end()

    def find(self, spec: ProcessSpec, env: Mapping[str, str]) -> ZygoteProcess:
        """The zygote for a process with an environment, perhaps a new one.

        Raises:
            OSError: the interpreter cannot be run.
        """
        interpreter = spec.interpreter or sys.executable
        options = spec.interpreter_args
        libraries = () if (interpreter, spec.preload) in self._refused else spec.preload
        early = read_early(env, libraries)
        key = (interpreter, options, libraries, tuple(sorted(early.items())))
        if key not in self._zygotes:
            is_plain = interpreter == sys.executable and options == interpreter_options()
            zygote = self._take_ahead(libraries, early) if is_plain else None
            zygote = zygote or self._start(interpreter, options, {**os.environ, **early})
            try:
                log_file = self.folder / f"zygote-{self._begun}.log"
                zygote.begin(process_table.make_cookie(self.run_id), libraries, log_file)
            except OSError:
                zygote.end()
                raise
            self._begun += 1
            self._zygotes[key] = zygote
        return self._zygotes[key]

    def _take_ahead(self, libraries: tuple[str, ...], early: Mapping[str, str]) -> ZygoteProcess | None:
        """The one that was started ahead, if it is as one would be that is started now."""
        if self._ahead is None or read_early(self._ahead[1], libraries) != early:
            return None
        zygote, _ = self._ahead
        self._ahead = None
        return zygote

    def _start(self, interpreter: str, options: tuple[str, ...], env: Mapping[str, str]) -> ZygoteProcess:
        room = process_table.make_cookie("")  # for that of the run
        return start_zygote(interpreter, options, {**env, COOKIE: room}, self._preload)

    def remove(self, dead: ZygoteProcess) -> None:
        """One has died."""
        self._zygotes = {key: zygote for key, zygote in self._zygotes.items() if zygote is not dead}

    def refuse(self, zygote: ZygoteProcess, why: str) -> None:
        """The libraries of a zygote that has died of them are not tried again."""
        self._refused[zygote.interpreter, zygote.libraries] = why
        self._untold.append(f"each process imports {', '.join(zygote.libraries)} by itself: {why}")

    def take_news(self) -> str:
        """What was refused and nobody was told yet; empty: nothing."""
        return self._untold.pop() if self._untold else ""
