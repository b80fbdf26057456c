"""The zygotes of one supervisor: which of them a process is forked from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.process import process_table
from kourou.runtime.process.preload import Preload, read_early
from kourou.runtime.process.zygote_process import ZygoteProcess, start_zygote

_Key = tuple[Any, ...]


class Zygotes:
    """One for each interpreter, its options, what it has imported, and the variables that come too late for a fork.

    Libraries that turn out not to be forkable are left to each process from then on.
    """

    def __init__(self, *, run_id: str, folder: Path, preload: Preload) -> None:
        self._run_id = run_id
        self._folder = folder
        self._preload = preload
        self._zygotes: dict[_Key, ZygoteProcess] = {}
        self._started = 0
        self._refused: dict[tuple[str, tuple[str, ...]], str] = {}  # interpreter and libraries → why
        self._untold: list[str] = []

    def __iter__(self) -> Iterator[ZygoteProcess]:
        return iter(self._zygotes.values())

    def find(self, spec: ProcessSpec, env: Mapping[str, str]) -> ZygoteProcess:
        """The zygote for a process with an environment, perhaps a new one.

        Raises:
            OSError: the interpreter cannot be run.
        """
        interpreter = spec.interpreter or sys.executable
        libraries = () if (interpreter, spec.preload) in self._refused else spec.preload
        early = read_early(env, libraries)
        key = (interpreter, spec.interpreter_args, libraries, tuple(sorted(early.items())))
        if key not in self._zygotes:
            variables = {**os.environ, **early, process_table.COOKIE: process_table.make_cookie(self._run_id)}
            log_file = self._folder / f"zygote-{self._started}.log"
            self._zygotes[key] = start_zygote(
                interpreter, spec.interpreter_args, variables, self._preload, libraries, log_file
            )
            self._started += 1
        return self._zygotes[key]

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
