"""What an engine does. It gets hosts, and starts one agent on each; it knows nothing of programs and nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from kourou.runtime.model.engines import EngineOptions, Shape

__all__ = ["AgentCommand", "Engine", "EngineMaker"]

AgentCommand = Callable[[str], "list[str]"]
"""The command of an agent, which holds no secret. Its argument is the host's place in the allocation, from 0 on; or the
name of a variable that holds it in the environment of the agent."""


class Engine(Protocol):
    """One allocation. All methods are called from one thread at a time; all but :meth:`granted` return soon."""

    loopback: bool
    """Agents call on this machine's loopback, where no other host reaches the launcher."""

    def allocate(self, shape: Shape) -> None:
        """Ask for hosts.

        Raises:
            LaunchError: the engine cannot be asked, or refuses; with its own words.
        """

    def granted(self, timeout_s: float) -> bool:
        """Wait for the hosts, at most so long; True once they are there.

        Raises:
            LaunchError: they never will be; with the engine's own words.
        """

    def why_pending(self) -> str:
        """What it is waited for, in the engine's own words; "" when that is not known."""

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        """Start an agent on the host of each of these places: of all, or of those whose agent was lost.

        Raises:
            LaunchError: that cannot be.
        """

    def words(self) -> str:
        """What the engine and the agents said last, for messages; "" when that is nothing."""

    def release(self) -> None:
        """End what is left of the agents, and give the hosts back. Idempotent."""


class EngineMaker(Protocol):
    """What ``EngineOptions.implementation`` names."""

    def __call__(self, options: EngineOptions, *, name: str, folder: Path) -> Engine:
        """An engine, which has done nothing yet.

        Args:
            options: what the user said.
            name: the program's.
            folder: the run's, for its scripts and for what it says; all hosts see it under the same path.
        """
