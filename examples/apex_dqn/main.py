"""Trains Ape-X DQN on CartPole: four actors that explore differently, prioritized replay, and one learner.

Actors say with each transition how much it surprised them; the learner draws what surprised most, corrects for that,
and writes back how much it still surprises. Run it from the repository's root::

    python -m examples.apex_dqn.main
    kourou plan examples.apex_dqn.main:make_program
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping

import numpy as np

import kourou as lp
from examples.apex_dqn.nodes import ApexActor, ApexLearner
from examples.dqn.nodes import Evaluator
from examples.dqn.replay import BATCH_SIZE, CAPACITY, TABLE, make_limiter
from examples.dqn.training import train
from kourou import replay as kr

ACTORS = 4
ENVIRONMENTS_PER_ACTOR = 4
PRIORITY_EXPONENT = 0.6
EXPLORATION = 0.5, 0.02
"""How often the boldest environment takes a random action, and the most careful one; the others lie between them."""


def make_tables(seed: int) -> list[kr.Table]:
    """One table, sampled by priority."""
    sampler = kr.selectors.Prioritized(PRIORITY_EXPONENT, seed)
    return [kr.Table(TABLE, sampler, kr.selectors.Fifo(), CAPACITY, make_limiter())]


def make_program(seed: int = 0) -> lp.Program:
    """The topology: that of the DQN example, with more actors."""
    program = lp.Program("apex")
    replay = program.add_node(lp.ReplayNode(functools.partial(make_tables, seed)), label="replay")
    weights = program.add_node(lp.WeightsNode(keep=ACTORS + 2), label="weights")
    program.add_node(lp.CourierNode(ApexLearner, replay, weights, seed=seed), label="learner")
    count = ACTORS * ENVIRONMENTS_PER_ACTOR
    epsilons = np.geomspace(*EXPLORATION, count, dtype=np.float32)
    with program.group("actor", on_failure=lp.Restart()):  # what they have seen is in the replay node
        for index in range(ACTORS):
            share = epsilons[index::ACTORS]
            program.add_node(lp.CourierNode(ApexActor, replay, weights, epsilons=share, seed=seed * ACTORS + index))
    program.add_node(lp.CourierNode(Evaluator, weights, replay, table=TABLE, seed=seed), label="evaluator")
    return program


def describe(tables: Mapping[str, kr.TableInfo]) -> str:
    """How the replay buffer stands."""
    table = tables[TABLE]
    seen = table.num_unique_samples / max(1, table.inserts)
    return f"{table.inserts:,} steps | {seen:.0%} of them drawn | {table.samples // BATCH_SIZE:,} gradient steps"


if __name__ == "__main__":
    sys.exit(train("Ape-X DQN", make_program, describe, "out/apex_dqn", target=400.0, window=5))
