"""What must hold of a run whatever happens. Checked at each step, at a cost that does not grow with the run's nodes."""

from __future__ import annotations

import collections
import math
import signal
from collections.abc import Callable, Iterable

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model import instructions as do
from kourou.runtime.model.instructions import Instruction
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement

_ENDED = 4  # all ends are as far as each other
_ORDER = {state: min(place, _ENDED) for place, state in enumerate(NodeState)}
_KILLED_WITHIN_S = 10.0  # after that a process which even SIGKILL has not ended is given up


class InvariantBroken(AssertionError):
    """Something that must hold of every run does not."""


class Invariants:
    """Watches what processes there are, and what the director wants done."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plans = {node.name: node for node in plan.nodes}
        self._stop_s = plan.stop.total_s + _KILLED_WITHIN_S
        self.running: set[str] = set()
        """Nodes that have a process."""
        self.alive: dict[str, int] = {}
        """Nodes of which an attempt has begun and not ended, with its number."""
        self._living_parts: dict[str, set[str]] = collections.defaultdict(set)  # of each colocation
        self._running_in: dict[str, set[str]] = collections.defaultdict(set)  # processes, of each unit, inner ones too
        self._to_be_killed: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._began_at: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
        self._recorded: dict[str, tuple[int, int]] = {}  # attempts and states, as others know them
        self._stopped_at: float | None = None
        self._removed: dict[str, float] = {}  # when that was asked for
        self._leaving: dict[str, float] = {}  # those that have not ended yet, the earliest first

    def add(self, nodes: Iterable[NodePlan]) -> None:
        """Somebody adds nodes."""
        self._plans |= {node.name: node for node in nodes}

    def process_began(self, name: str) -> None:
        """A process of the node exists."""
        self._hold(name not in self.running, f"{name} runs twice")
        self.running.add(name)
        for unit in self._above(name):
            self._running_in[unit].add(name)

    def process_ended(self, name: str) -> None:
        """It does not any more."""
        self.running.discard(name)
        self._to_be_killed.discard(name)
        for unit in self._above(name):
            self._running_in[unit].discard(name)

    def instructed(self, instruction: Instruction, now: float) -> None:
        """The director wants something done."""
        match instruction:
            case do.Begin(name=name, attempt=attempt):
                self._begin(self._plans[name], attempt, now)
            case do.Launch(name=name, attempt=attempt):
                self._hold(self.alive.get(name) == attempt, f"{name} is launched without its attempt {attempt}")
            case do.End():
                self._end(instruction, now)
            case do.Signal(name=name, number=signal.SIGKILL):
                self._to_be_killed.add(name)
            case do.Change(name=name, changes=changes) if "removed" in changes:
                self._removed[name] = now
                if name in self.alive:
                    self._leaving[name] = now
            case do.Fail(record=record):
                self._hold(record.node not in self._removed, f"{record.node} was removed, and its end is a failure")
            case do.Stop():
                self._hold(self._stopped_at is None, "the program stops twice")
                self._stopped_at = now

    def recorded(self, record: NodeRecord) -> None:
        """A node's record has changed."""
        past = self._recorded.get(record.name)
        now = record.attempt, _ORDER[record.state]
        self._hold(past is None or past <= now, f"{record.name} was further than {record.state} already")
        self._recorded[record.name] = now

    def knows(self, name: str, seen: Iterable[NodeRecord], record_of: Callable[[str], NodeRecord | None]) -> None:
        """A node has heard all that it was told of those that it follows."""
        for record in seen:
            self._hold(record == record_of(record.name), f"{name} knows an earlier record of {record.name}")

    def check(self, *, ended: bool, due: float, now: float) -> None:
        """After each step.

        Args:
            ended: the director says that no node runs, or will.
            due: when something is to happen next, whatever it is.
            now: the time.
        """
        self._hold(ended or self.running or due < math.inf, f"{len(self.alive)} nodes wait, and nothing is to come")
        if self._leaving and self._stopped_at is None:
            name, since = next(iter(self._leaving.items()))
            self._hold(now <= since + self._stop_s + 1.0, f"{name} was removed, and does not end")
        if self._stopped_at is not None:
            self._hold(ended or now <= self._stopped_at + self._stop_s + 1.0, "a stop does not end")
        self._hold(not (ended and self.alive), f"the run has ended, and {len(self.alive)} nodes have not")

    def _begin(self, node: NodePlan, attempt: int, now: float) -> None:
        name = node.name
        self._hold(name not in self.alive, f"{name} begins before it has ended")
        self._hold(attempt == self._attempts.get(name, 0) + 1, f"attempt {attempt} of {name} is not the next one")
        self._hold(self._stopped_at is None, f"{name} begins in a program that stops")
        self._hold(name not in self._removed, f"{name} begins, and was removed")
        self._hold(node.parent is None or node.parent in self.alive, f"{name} begins, and its colocation does not live")
        self._to_be_killed.discard(name)
        self.alive[name] = self._attempts[name] = attempt
        if node.parent is not None:
            self._living_parts[node.parent].add(name)
        elif attempt > 1:
            policy = node.on_failure
            self._hold(isinstance(policy, Restart), f"{name} begins again, and its policy is {policy!r}")
            if isinstance(policy, Restart):
                self._keep_budget(name, policy, now)

    def _keep_budget(self, name: str, policy: Restart, now: float) -> None:
        # A restart counts from the failure, and comes after its delay.
        delays = policy.delay_s(policy.max_times)
        times = self._began_at[name]
        times.append(now)
        while times and now - times[0] >= policy.window_s - delays:
            times.popleft()
        self._hold(len(times) <= policy.max_times, f"{name} began again {len(times)} times in {policy.window_s:g} s")

    def _end(self, end: do.End, now: float) -> None:
        name, plan = end.record.node, self._plans[end.record.node]
        attempt = self.alive.pop(name, None)
        self._leaving.pop(name, None)
        self._hold(attempt == end.record.attempt, f"attempt {end.record.attempt} of {name} ends, and not once")
        self._hold(not self._living_parts[name], f"{name} ends before its parts")
        stops_since = self._removed.get(name, math.inf if self._stopped_at is None else self._stopped_at)
        given_up = now >= stops_since + _KILLED_WITHIN_S
        self._hold(name not in self.running or given_up, f"{name} ends, and its process has not")
        if plan.parent is None:
            return
        self._living_parts[plan.parent].discard(name)
        bad = end.record.state is NodeState.FAILED and not end.will_restart and plan.on_failure != "ignore"
        bad = bad and name not in self._removed
        if bad and plan.placement is Placement.OWN and self._stopped_at is None:
            left = self._running_in[plan.parent] - self._to_be_killed
            self._hold(not left, f"{name} has failed for good, and {', '.join(sorted(left))} of its unit may live on")

    def _above(self, name: str) -> list[str]:
        found: list[str] = []
        parent = self._plans[name].parent
        while parent is not None:
            found.append(parent)
            parent = self._plans[parent].parent
        return found

    @staticmethod
    def _hold(holds: object, words: str) -> None:
        if not holds:
            raise InvariantBroken(words)
