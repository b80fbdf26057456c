"""A state machine of a run, a clock that a test sets, and its instructions in short."""

from __future__ import annotations

import signal

from kourou.runtime.launch.decisions.state_machine import AddAsked, Event, StateMachine
from kourou.runtime.model import events, instructions
from kourou.runtime.model.instructions import Instruction
from kourou.runtime.model.records import INTERRUPT, NO_SIGNAL, NodeState, Outcome, ProcessExit
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.stopping.timeline import StopTimeline

RAISED = Outcome(kind="raised", code=1, exception="ValueError: x", traceback="Traceback: x")
SIGNALS = {NO_SIGNAL: "withdraw", INTERRUPT: "interrupt", signal.SIGTERM: "terminate", signal.SIGKILL: "kill"}
"""What those that the director sends are for."""
TIMELINE = StopTimeline(ask_s=5.0, interrupt_s=3.0, terminate_s=2.0)


def node(name, **options):
    """A node of a plan."""
    return NodePlan(name=name, kind="fake", **options)


def plan_of(*nodes, launch_type=LaunchType.LOCAL_MULTI_PROCESSING, stop=TIMELINE):
    """A plan of these nodes."""
    return LaunchPlan(program="fake", launch_type=launch_type, nodes=nodes, stop=stop)


class Play:
    """A state machine and its clock."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.now = 0.0
        self.machine = StateMachine(
            plan, run_id="run-1", here="here", log_file=lambda name: f"logs/{name}", now=self.now
        )

    def tell(self, event: Event) -> list[Instruction]:
        """Hand over an event."""
        return self.machine.handle(event, self.now)

    def wait(self, seconds: float = 0.0) -> list[Instruction]:
        """Let the time pass, with all that is due meanwhile."""
        end = self.now + seconds
        done: list[Instruction] = []
        while not self.machine.ended and self.machine.due <= end:
            self.now = max(self.now, self.machine.due)
            done += self.machine.handle(events.Due(), self.now)
        self.now = end
        return done


def ready(name, attempt=1, **options):
    """The node publishes that it is ready."""
    return events.Published(name=name, attempt=attempt, ready=True, **options)


def reported(name, outcome, attempt=1):
    """The node's last words."""
    return events.Reported(name=name, attempt=attempt, outcome=outcome)


def exited(name, code=0, *, signal=None, attempt=1):
    """The node's process is gone; ``signal`` ended it, if there was one."""
    how = ProcessExit(code=None if signal else code, signal=signal, last_lines=("last words",))
    return events.Exited(name=name, attempt=attempt, exit=how)


def finished(name, attempt=1):
    """The node says that it has finished, and its process is gone."""
    return [reported(name, Outcome(kind="finished"), attempt), exited(name, attempt=attempt)]


def raised(name, attempt=1):
    """The node says that it raised, and its process is gone."""
    return [reported(name, RAISED, attempt), exited(name, 1, attempt=attempt)]


def stop(reason="enough", *, at_once=False):
    """Somebody wants the program to end."""
    return events.StopAsked(reason=reason, origin="test", at_once=at_once)


def add(*nodes):
    """Somebody adds nodes."""
    return AddAsked(nodes=nodes, origin="somebody")


def remove(*names):
    """Somebody removes nodes."""
    return events.RemoveAsked(names=names, origin="somebody")


def in_short(told: list[Instruction]) -> list[str]:
    """What matters of instructions: whom they reach and what becomes of whom; not what is only written down."""
    return [short for instruction in told if (short := _short(instruction))]


def _short(instruction: Instruction) -> str:
    match instruction:
        case instructions.Launch():
            short = f"launch {instruction.name} {instruction.attempt}"
        case instructions.End():
            again = ", again" if instruction.will_restart else ""
            short = f"{instruction.record.node} {instruction.record.state}{again}"
        case instructions.Fail():
            short = f"failure: {instruction.record.node} {instruction.record.cause}"
        case instructions.Stop():
            short = f"stop: {instruction.reason}"
        case instructions.Change():
            short = _change_in_short(instruction)
        case instructions.Signal():
            short = f"{SIGNALS[instruction.number]} {instruction.name}"
        case instructions.Add():
            short = f"add {' '.join(record.name for record in instruction.records)}"
        case instructions.Dismiss():
            short = f"dismiss {instruction.name}"
        case _:
            short = "release" if isinstance(instruction, instructions.Release) else ""
    return short


def _change_in_short(change: instructions.Change) -> str:
    if "removed" in change.changes:
        return f"{change.name} {change.changes.get('state', 'stays ended')}, removed"
    if "will_restart" in change.changes:
        return f"{change.name} {'may' if change.changes['will_restart'] else 'will not'} restart"
    state = change.changes.get("state")
    return f"{change.name} {state}" if isinstance(state, NodeState) else ""
