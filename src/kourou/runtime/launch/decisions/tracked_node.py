"""What the director knows of one node."""

from __future__ import annotations

import collections
import dataclasses

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model.records import ExitRecord, NodeState, Outcome
from kourou.runtime.plan.plan import NodePlan


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class TrackedNode:
    """A node of the plan and its present attempt. Times are those of the director's events."""

    plan: NodePlan
    host: str
    serves_only: bool
    state: NodeState = NodeState.PENDING
    attempt: int = 0
    began_at: float = 0.0
    pid: int | None = None
    attached: bool = False
    """Its process has reported."""
    thread_failed: bool = False
    """One of the threads that live in its process failed, and so will it."""
    outcome: Outcome | None = None
    """What it said of its end."""
    killed: str | None = None
    """Why the director killed it, if it did."""
    restart_asked: str | None = None
    """Who wants it to be started again once it has ended, if anybody does."""
    removed: str = ""
    """Who had it removed, if anybody did."""
    will_restart: bool = False
    exit: ExitRecord | None = None
    restarts: collections.deque[float] = dataclasses.field(default_factory=collections.deque)
    """When it was restarted, within the window of its policy."""

    @property
    def name(self) -> str:
        """``label/index``."""
        return self.plan.name

    @property
    def gone(self) -> bool:
        """It has ended and will not be back."""
        return self.state.ended and not self.will_restart

    def begin(self, now: float) -> None:
        """A new attempt starts."""
        self.state = NodeState.STARTING
        self.attempt += 1
        self.began_at = now
        self.pid = self.outcome = self.killed = self.restart_asked = None
        self.attached = self.thread_failed = self.will_restart = False

    def uptime_s(self, now: float) -> float:
        """Since this attempt began."""
        return round(now - self.began_at, 3) if self.attempt else 0.0

    def take_restart(self, policy: Restart, now: float) -> float | None:
        """Use up one restart: seconds until it is due; None if there is none left."""
        while self.restarts and now - self.restarts[0] >= policy.window_s:
            self.restarts.popleft()
        taken = len(self.restarts)
        if taken >= policy.max_times:
            return None
        self.restarts.append(now)
        return policy.delay_s(taken)
