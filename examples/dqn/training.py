"""Run a program that learns until it has learnt enough: what the examples that learn CartPole have in common."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import kourou as lp
from examples.dqn.nodes import Evaluation, moving_means
from examples.dqn.progress import ProgressLine
from kourou.replay import TableInfo

POLL_S = 0.2
Describe = Callable[[Mapping[str, TableInfo]], str]


class Goal(NamedTuple):
    """When enough has been learnt."""

    target: float
    """Mean return of an evaluation."""
    window: int
    """Evaluations in a row that reach it."""

    def is_reached(self, curve: Sequence[Evaluation]) -> bool:
        """Whether the latest evaluations are good enough."""
        return len(curve) >= self.window and min(point.mean for point in curve[-self.window :]) >= self.target


def train(
    name: str,
    make_program: Callable[[int], lp.Program],
    describe: Describe,
    folder: str,
    target: float = 195.0,
    window: int = 1,
) -> int:
    """Run the program until its target is reached, and draw the learning curve; the exit code.

    Args:
        name: of the algorithm.
        make_program: makes it from a seed. It has a replay node ``replay`` and an Evaluator ``evaluator``.
        describe: says in a few words how its tables stand.
        folder: for the learning curve, unless the command line names another one.
        target: mean return to reach, likewise.
        window: evaluations in a row that have to reach it.
    """
    options = parse_arguments(name, folder, target)
    program = make_program(options.seed)
    nodes = ", ".join(f"{len(group)} × {label}" if len(group) > 1 else label for label, group in program.groups.items())
    print(f"{name} on CartPole-v1 as {options.launch_type}: {nodes}")
    started = time.time()
    # The end of the block stops the program, whyever it is reached, and raises what a node failed with.
    with lp.launch(program, options.launch_type) as run:
        lp.log_config(algorithm=name, seed=options.seed, target=options.target, window=window)
        goal = Goal(options.target, window)
        curve = follow(program, describe, goal, started=started, max_seconds=options.max_seconds)
    reached = goal.is_reached(curve)
    if curve:
        from examples.dqn.plot import draw  # noqa: PLC0415 - matplotlib takes long, and nodes need not wait for it

        options.out.mkdir(parents=True, exist_ok=True)
        picture = options.out / "learning_curve.png"
        draw(picture, curve, name, started=started, target=options.target, window=window)
        print(f"The learning curve is in {picture}; kourou plot {run.run_id} draws all that was measured")
    if not reached:
        best = max((point.mean for point in curve), default=0.0)
        each = f" of {window} evaluations in a row" if window > 1 else ""
        print(
            f"error: the mean return{each} did not reach {options.target:g} within {options.max_seconds:g} s; "
            f"the best of {len(curve)} evaluations was {best:.1f}",
            file=sys.stderr,
        )
    return 0 if reached else 1


def follow(
    program: lp.Program, describe: Describe, goal: Goal, *, started: float, max_seconds: float
) -> list[Evaluation]:
    """Show how things stand until the target is reached, the time is up or the program stops; the learning curve."""
    replay = program.handle_to("replay").dereference()
    evaluator = lp.courier.with_options(program.handle_to("evaluator").dereference(), timeout_s=max_seconds)
    stopping = lp.stop_event()
    curve: list[Evaluation] = []

    def show() -> None:
        latest = f"{moving_means(curve, goal.window)[-1]:.1f}" if curve else "none yet"
        tables = describe(replay.server_info(timeout_s=max_seconds))
        line.show(f"{time.time() - started:5.1f} s | {tables} | mean return {latest}")

    # A lost connection means that a node has ended and the program stops; the run will tell why.
    over = (lp.errors.CallCancelled, lp.errors.ConnectionLost, lp.errors.DeadlineExceeded)
    with contextlib.closing(ProgressLine()) as line, contextlib.suppress(*over):
        while not stopping.wait(POLL_S) and time.time() - started < max_seconds:
            for evaluation in evaluator.curve(since=len(curve)):
                curve.append(evaluation)
                if goal.is_reached(curve):
                    show()
                    return curve
            show()
    return curve


def parse_arguments(name: str, folder: str, target: float) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=f"Train {name} on CartPole as a kourou program.")
    parser.add_argument("--launch-type", default="local_mp", choices=["local_mt", "local_mp"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(folder), help="folder for the learning curve (%(default)s)")
    parser.add_argument("--target", type=float, default=target, help="mean return to reach (%(default)s)")
    parser.add_argument("--max-seconds", type=float, default=150.0, help="when to give up (%(default)s)")
    return parser.parse_args()
