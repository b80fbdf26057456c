"""Trains PPO on CartPole: actors put what they have just seen into a queue, and the learner takes each item once.

The queue is as long as what the learner takes at a time, so no actor gets further ahead than that, and nothing is
learnt from that is older. Run it from the repository's root::

    python -m examples.ppo_queue.main
    kourou plan examples.ppo_queue.main:make_program
    kourou run examples.ppo_queue.main:make_program     # until Ctrl-C; then
    kourou run --resume last                            # it goes on from there
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import kourou as lp
from examples.dqn.nodes import Evaluator
from examples.dqn.training import train
from examples.ppo_queue.nodes import ENVIRONMENTS_PER_ACTOR, STEPS, TABLE, Actor, Learner
from kourou import replay as kr

ACTORS = 2


def make_tables() -> list[kr.Table]:
    """A queue of rollouts."""
    return [kr.Table.queue(TABLE, ACTORS * ENVIRONMENTS_PER_ACTOR)]


def make_program(seed: int = 0) -> lp.Program:
    """The topology: actors fill the queue, the learner empties it, and who acts reads its weights."""
    program = lp.Program("ppo")
    replay = program.add_node(lp.ReplayNode(make_tables), label="replay")
    rollouts = ACTORS * ENVIRONMENTS_PER_ACTOR
    weights = program.add_node(lp.WeightsNode(keep=ACTORS + 2), label="weights")
    with program.group("learner", checkpoints=lp.Checkpoints(every_s=10)):
        program.add_node(lp.CourierNode(Learner, replay, weights, rollouts, seed=seed))
    with program.group("actor"):
        for index in range(ACTORS):
            program.add_node(lp.CourierNode(Actor, replay, weights, seed=seed * ACTORS + index))
    evaluator = lp.CourierNode(Evaluator, weights, replay, table=TABLE, seed=seed, steps_per_item=STEPS)
    program.add_node(evaluator, label="evaluator")
    return program


def describe(tables: Mapping[str, kr.TableInfo]) -> str:
    """How the queue stands."""
    table = tables[TABLE]
    return (
        f"{table.inserts * STEPS:,} steps | {table.samples * STEPS:,} learnt from | {table.current_size} rollouts wait"
    )


if __name__ == "__main__":
    sys.exit(train("PPO", make_program, describe, "out/ppo_queue", target=450.0, window=3))
