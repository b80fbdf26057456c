"""The hosts that an engine holds for a program, and their agents, which may be started before anybody serves them."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path

from kourou.runtime.files import nonblocking_stream
from kourou.runtime.interpreter.startup import python_command
from kourou.runtime.launchers.engines.base import Engine
from kourou.runtime.model.engines import EngineOptions, Shape

AGENTS = "agents"
"""Folder in the run's: what the engine and its agents said."""
_LOOK_S = 0.5


class Allocation:
    """Made, it has asked for nothing. Its owner calls :meth:`release`.

    Args:
        options: of the engine.
        shape: what is asked for.
        name: the program's.
        folder: the run's.
        order: the file that tells agents whom they call. It is there when they are started, and may be completed later.
    """

    def __init__(self, options: EngineOptions, shape: Shape, *, name: str, folder: Path, order: Path) -> None:
        self._options, self._shape, self._order = options, shape, order
        (folder / AGENTS).mkdir(mode=0o700, exist_ok=True)
        make = pkgutil.resolve_name(options.implementation)
        self.engine: Engine = make(options, name=name, folder=folder / AGENTS)
        self._began = False

    def begin(self, on_wait: Callable[[str], object] = lambda _: None) -> None:
        """Ask for the hosts, wait until they are there, and start their agents; unless that was done.

        Args:
            on_wait: told now and then why it takes long, in the engine's words; "" once all is there. What it raises
                ends the waiting.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
        if not self._began:
            self.engine.allocate(self._shape)
            self.wait(self.engine.granted, on_wait)
            self.engine.start_agents(self._command, range(self._shape.hosts))
            self._began = True

    def wait(self, is_there: Callable[[float], bool], on_wait: Callable[[str], object]) -> None:
        """Wait for something that the engine tells why it is not there; ``is_there`` is told how long it may take.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
        told = ""
        while not is_there(_LOOK_S):
            why = self.engine.why_pending()
            if why and why != told:
                nonblocking_stream.warn("%s: waiting for %s", self._options.launch_type, why)
                told = why
            on_wait(told)
        on_wait("")

    def start_again(self, place: int) -> None:
        """Start another agent where one was lost.

        Raises:
            LaunchError: that cannot be.
        """
        self.engine.start_agents(self._command, [place])

    def release(self) -> None:
        """Give the hosts back. Idempotent."""
        self.engine.release()

    def _command(self, place: str) -> list[str]:
        entry = "from kourou.runtime.host_agent.dialling import main"
        return python_command(f"{entry}; main({str(self._order)!r}, {place!r})")
