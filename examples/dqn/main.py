"""Trains DQN on CartPole with two actors, a learner, an evaluator and a replay buffer, each in a process of its own.

Run it from the repository's root::

    python -m examples.dqn.main                         # or: make demo
    python -m examples.dqn.main --launch-type local_mt  # the same program as threads of one process
    kourou plan examples.dqn.main:make_program          # what it would start

It ends once the evaluator's mean return reaches the target, and leaves the learning curve as a picture and as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from pathlib import Path

import numpy as np

import kourou as lp
from examples.dqn.nodes import Actor, Evaluation, Evaluator, Learner
from examples.dqn.plot import draw, write_json
from examples.dqn.progress import ProgressLine
from examples.dqn.replay import BATCH_SIZE, TABLE, make_tables
from kourou.replay import TableInfo

ACTORS = 2
ENVIRONMENTS_PER_ACTOR = 8
POLL_S = 0.2


def make_program(seed: int = 0) -> lp.Program:
    """The topology: actors feed the replay buffer, the learner drains it, and who acts asks the learner for weights."""
    program = lp.Program("dqn")
    replay = program.add_node(lp.ReplayNode(functools.partial(make_tables, seed)), label="replay")
    learner = program.add_node(lp.CourierNode(Learner, replay, seed=seed), label="learner")
    epsilons = np.linspace(0.02, 0.3, ACTORS * ENVIRONMENTS_PER_ACTOR, dtype=np.float32)
    with program.group("actor"):
        for index in range(ACTORS):
            share = epsilons[index::ACTORS]
            program.add_node(lp.CourierNode(Actor, replay, learner, epsilons=share, seed=seed * ACTORS + index))
    program.add_node(lp.CourierNode(Evaluator, learner, replay, seed=seed), label="evaluator")
    return program


def main() -> int:
    """Run the program until its target is reached; the exit code."""
    options = parse_arguments()
    program = make_program(options.seed)
    print(f"DQN on CartPole-v1 as {options.launch_type}: {ACTORS} actors, a learner, an evaluator and a replay buffer")
    started = time.time()
    # The end of the block stops the program, whyever it is reached, and raises what a node failed with.
    with lp.launch(program, options.launch_type):
        curve = follow(program, options.target, started=started, max_seconds=options.max_seconds)
    reached = bool(curve) and curve[-1].mean >= options.target
    if curve:
        options.out.mkdir(parents=True, exist_ok=True)
        picture = options.out / "learning_curve.png"
        draw(picture, curve, started=started, target=options.target)
        write_json(picture.with_suffix(".json"), curve, started=started, target=options.target, seed=options.seed)
        print(f"The learning curve is in {picture}")
    if not reached:
        best = max((point.mean for point in curve), default=0.0)
        print(
            f"error: the mean return did not reach {options.target:g} within {options.max_seconds:g} s; "
            f"the best of {len(curve)} evaluations was {best:.1f}",
            file=sys.stderr,
        )
    return 0 if reached else 1


def follow(program: lp.Program, target: float, *, started: float, max_seconds: float) -> list[Evaluation]:
    """Show how things stand until the target is reached, the time is up or the program stops; the learning curve."""
    replay = program.handle_to("replay").dereference()
    evaluator = program.handle_to("evaluator").dereference().with_options(timeout_s=max_seconds)
    stopping = lp.stop_event()
    curve: list[Evaluation] = []
    # A lost connection means that a node has ended and the program stops; the run will tell why.
    over = (lp.errors.CallCancelled, lp.errors.ConnectionLost, lp.errors.DeadlineExceeded)
    with contextlib.closing(ProgressLine()) as line, contextlib.suppress(*over):
        while not stopping.wait(POLL_S) and time.time() - started < max_seconds:
            for evaluation in evaluator.curve(since=len(curve)):
                curve.append(evaluation)
                if evaluation.mean >= target:
                    line.show(describe(replay.server_info(max_seconds)[TABLE], curve, time.time() - started))
                    return curve
            line.show(describe(replay.server_info(max_seconds)[TABLE], curve, time.time() - started))
    return curve


def describe(table: TableInfo, curve: list[Evaluation], seconds: float) -> str:
    """How things stand, in one line."""
    latest = f"{curve[-1].mean:.1f}" if curve else "none yet"
    return (
        f"{seconds:5.1f} s | {table.inserts:,} steps | buffer {table.current_size:,} | "
        f"{table.samples // BATCH_SIZE:,} gradient steps | mean return {latest}"
    )


def parse_arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description="Train DQN on CartPole as a kourou program.")
    parser.add_argument("--launch-type", default="local_mp", choices=["local_mt", "local_mp"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/dqn"), help="folder for the learning curve (%(default)s)")
    parser.add_argument("--target", type=float, default=195.0, help="mean return to reach (%(default)s)")
    parser.add_argument("--max-seconds", type=float, default=150.0, help="when to give up (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
