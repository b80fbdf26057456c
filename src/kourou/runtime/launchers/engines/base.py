"""What an engine does. It gets hosts, and starts one agent on each; it knows nothing of programs and nodes.

How to write one, and where it is named: docs/internals/engines.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from kourou.runtime.model.engines import Shape

if TYPE_CHECKING:
    from kourou.runtime.model.status import RunState
    from kourou.runtime.plan.plan import LaunchPlan

AgentCommand = Callable[[str], "list[str]"]
"""The command of an agent, which holds no secret. Its argument is the host's place in the allocation, from 0 on; or the
place of the first one and a variable that numbers them in the environments of the agents, as in ``0+SLURM_NODEID``."""


class Engine(Protocol):
    """One allocation. All methods are called from one thread at a time; all but :meth:`granted` return soon."""

    loopback: bool
    """Agents call on this machine's loopback, where no other host reaches the launcher."""
    port: int
    """Where they call; 0: the kernel chooses."""
    patient: bool
    """Hosts come after their agents were asked for, whenever that is, and agents start again by themselves: they are
    waited for without a limit, and :meth:`granted` is asked meanwhile."""

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
        ...

    def why_pending(self) -> str:
        """What it is waited for, in the engine's own words; "" when that is not known."""
        ...

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        """Start an agent on the host of each of these places: of all, or of those whose agent was lost.

        Raises:
            LaunchError: that cannot be.
        """

    def words(self) -> str:
        """What the engine and the agents said last, for messages; "" when that is nothing."""
        ...

    def release(self) -> None:
        """End what is left of the agents, and give the hosts back. Idempotent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """What is handed to an engine for a batch job, to the letter."""

    script: str
    """The text of the script or manifest."""
    path: Path
    """Where it is written first."""
    command: tuple[str, ...]
    """What submits it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobState:
    """What an engine says of a batch job."""

    state: Literal["pending", "running", "gone"]
    reason: str = ""
    """Why it is pending, or how it ended; in the engine's own words. Of one that runs: why some of its hosts are not
    there."""
    outcome: RunState | None = None
    """How the program ended, where the engine knows that."""
    last_words: str = ""
    """What the launcher left, where its folder is not shared: its last status, as JSON; or the end of its output."""


class BatchSystem(Protocol):
    """What ``EngineOptions.batch`` names: an engine in whose allocations launchers run."""

    shares_folder: bool
    """The run's folder is the one that its launcher has; False: that is where the launcher is, and goes with it."""

    def plan(self, plan: LaunchPlan, *, folder: Path, command: Sequence[str]) -> Submission:
        """What would be submitted. It changes nothing.

        Args:
            plan: of the program, for this engine.
            folder: the run's.
            command: the launcher's, where all hosts see what this one does; it runs on the first of them.

        Raises:
            PlanError: what has to travel cannot.
        """
        ...

    def submit(self, submission: Submission) -> str:
        """Hand it over; the job, as the engine names it.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
        ...

    def look(self, job: str) -> JobState:
        """What has become of a job.

        Raises:
            LaunchError: the engine cannot be asked.
        """
        ...

    def cancel(self, job: str) -> None:
        """End a job; one that has ended is no error.

        Raises:
            LaunchError: the engine cannot be asked.
        """

    def command_there(self, job: str, words: Sequence[str], *, terminal: bool) -> list[str]:
        """What runs ``kourou`` with these arguments beside the launcher, where its folder is not shared.

        Raises:
            ServerUnavailable: there is no launcher now.
            LaunchError: the engine cannot be asked.
        """
        ...

    def logs_there(self, job: str) -> list[str]:
        """What prints what the launcher printed, also when it has ended, where its folder is not shared."""
        ...

    def own_job(self) -> str:
        """The job that this process is the launcher of."""
        ...

    def own_restarts(self) -> int:
        """How often that was put back into the queue."""
        ...

    def own_time_left(self) -> float | None:
        """Seconds until that reaches its time limit; None: it has none, or the engine does not say."""
        ...

    def requeue(self, job: str) -> None:
        """Put a job back into the queue; it is ended then, and begins again.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
