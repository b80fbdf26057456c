"""A public fake of an engine: hosts that are agents on this host, which call as those of any engine do.

What a real engine may do to a program can be done here by hand: let it wait, and say why; refuse; lose a host.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from kourou import errors
from kourou.runtime.host_agent.dialling import NAME_VARIABLE
from kourou.runtime.launchers.engines.base import AgentCommand, Engine
from kourou.runtime.launchers.engines.children import await_end, words_in
from kourou.runtime.model.engines import EngineOptions, Shape

_END_S = 10.0
_PENDING_S = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalHosts(EngineOptions):
    """``lp.launch(program, LocalHosts(nodes=3))``: as an engine, on this host alone."""

    launch_type: ClassVar[str] = "test_engine"
    implementation: ClassVar[str] = "kourou.testing.engines:LocalEngine"

    pending: tuple[str, ...] = ()
    """Reasons to wait that it gives, one after another, each for a moment."""
    refusal: str | None = None
    """What it says when it refuses in the end; None: it does not."""


class LocalEngine(Engine):
    """Agents on this host."""

    loopback, port, patient = True, 0, False

    def __init__(self, options: LocalHosts, *, name: str, folder: Path) -> None:
        del name
        self._options = options
        self._folder = folder
        self._reasons = list(options.pending)
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        """By place."""
        self._ended: list[subprocess.Popen[bytes]] = []

    def allocate(self, shape: Shape) -> None:
        del shape

    def granted(self, timeout_s: float) -> bool:
        if self._reasons:
            time.sleep(min(timeout_s, _PENDING_S))
            return False
        if self._options.refusal is not None:
            raise errors.LaunchError(f"the engine refuses: {self._options.refusal}")
        return True

    def why_pending(self) -> str:
        return self._reasons.pop(0) if self._reasons else ""

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        for place in places:
            if place in self.agents:
                self._ended.append(self.agents[place])
            with (self._folder / f"{place}.log").open("ab") as log:
                self.agents[place] = subprocess.Popen(
                    command(str(place)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, NAME_VARIABLE: f"local-{place}"},
                    start_new_session=True,
                )

    def words(self) -> str:
        return words_in(self._folder)

    def release(self) -> None:
        deadline = time.monotonic() + _END_S
        for agent in (*self.agents.values(), *self._ended):
            await_end(agent, deadline)
