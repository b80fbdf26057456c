"""Trains DQN on CartPole with two actors, a learner, an evaluator and a replay buffer, each in a process of its own.

Run it from the repository's root::

    python -m examples.dqn.main                         # or: make demo
    python -m examples.dqn.main --launch-type local_mt  # the same program as threads of one process
    kourou plan examples.dqn.main:make_program          # what it would start

It ends once three evaluations in a row have a mean return of 475 of 500, and leaves the learning curve as a picture
and as JSON.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping

import numpy as np

import kourou as lp
from examples.dqn.nodes import Actor, Evaluator, Learner
from examples.dqn.replay import BATCH_SIZE, TABLE, make_tables
from examples.dqn.training import train
from kourou.replay import TableInfo

ACTORS = 2
ENVIRONMENTS_PER_ACTOR = 8


def make_program(seed: int = 0) -> lp.Program:
    """The topology: actors feed the replay buffer, the learner drains it, and who acts reads its weights."""
    program = lp.Program("dqn")
    replay = program.add_node(lp.ReplayNode(functools.partial(make_tables, seed)), label="replay")
    weights = program.add_node(lp.WeightsNode(keep=ACTORS + 2), label="weights")
    program.add_node(lp.CourierNode(Learner, replay, weights, seed=seed), label="learner")
    epsilons = np.linspace(0.02, 0.3, ACTORS * ENVIRONMENTS_PER_ACTOR, dtype=np.float32)
    with program.group("actor"):
        for index in range(ACTORS):
            share = epsilons[index::ACTORS]
            program.add_node(lp.CourierNode(Actor, replay, weights, epsilons=share, seed=seed * ACTORS + index))
    program.add_node(lp.CourierNode(Evaluator, weights, replay, table=TABLE, seed=seed), label="evaluator")
    return program


def describe(tables: Mapping[str, TableInfo]) -> str:
    """How the replay buffer stands."""
    table = tables[TABLE]
    gradient_steps = table.samples // BATCH_SIZE
    return f"{table.inserts:,} steps | buffer {table.current_size:,} | {gradient_steps:,} gradient steps"


if __name__ == "__main__":
    sys.exit(train("DQN", make_program, describe, "out/dqn", target=475.0, window=3))
