"""Acting: what actors and the evaluator do with the learner's weights.

A network of this size answers several times faster in NumPy than in torch, and a process that does not import torch
starts two seconds sooner. So only the learner imports it (see agent.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np
import numpy.typing as npt

ENVIRONMENT = "CartPole-v1"
OBSERVATION_SIZE = 4
ACTIONS = 2
LONGEST_EPISODE = 500

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Weights = Sequence[Floats]
"""Weight and bias of each layer in turn, as torch's ``Module.parameters()`` orders them."""


def make_environments(count: int, *, sparse_reward: bool = False) -> gymnasium.vector.VectorEnv:
    """Environments that are stepped together; one whose episode has ended starts the next with the following step.

    ``sparse_reward`` gives -1 when the pole falls instead of 1 for each step until then. The best policy is the same,
    and the values to learn are small numbers from the start.
    """
    return gymnasium.make_vec(
        ENVIRONMENT, num_envs=count, vectorization_mode="vector_entry_point", sutton_barto_reward=sparse_reward
    )


def action_values(weights: Weights, observations: Floats) -> Floats:
    """Q of every action: a forward pass through layers with ReLU in between."""
    values = observations
    for layer in range(0, len(weights), 2):
        if layer > 0:
            values = np.maximum(values, 0.0)
        values = values @ weights[layer].T + weights[layer + 1]
    return values


def best_actions(weights: Weights, observations: Floats) -> Integers:
    """The action of highest value for each observation."""
    best: Integers = action_values(weights, observations).argmax(axis=1)
    return best


def choose_actions(weights: Weights, observations: Floats, epsilon: Floats, rng: np.random.Generator) -> Integers:
    """The best action of each environment or, with probability ``epsilon`` (one for each environment), any."""
    best = best_actions(weights, observations)
    anything = rng.integers(ACTIONS, size=best.shape)
    return np.where(rng.random(best.shape) < epsilon, anything, best)


def play_episodes(weights: Weights, count: int, seed: int) -> Floats:
    """The returns of ``count`` episodes, side by side, in which the best action is always taken."""
    environments = make_environments(count)
    observations, _ = environments.reset(seed=seed)
    returns = np.zeros(count, dtype=np.float32)
    running = np.ones(count, dtype=bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = environments.step(best_actions(weights, observations))
        returns += rewards * running
        running &= ~(terminated | truncated)
    environments.close()
    return returns
