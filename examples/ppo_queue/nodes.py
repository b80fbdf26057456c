"""The actors, which play and queue what they see, and the learner."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

import kourou as lp
from examples.dqn.policy import Floats, Integers, Weights, action_values, make_environments
from kourou import replay as kr, weights as kw

TABLE = "rollouts"
STEPS = 64
"""Of a rollout."""
ENVIRONMENTS_PER_ACTOR = 8


class Actor:
    """Plays a round of steps with the latest policy, and queues it.

    Args:
        replay: client of the queue.
        weights: client of the learner's policy.
        seed: of its environments and its actions.
    """

    def __init__(self, replay: kr.Client, weights: kw.Client, seed: int) -> None:
        self._replay = replay
        self._weights = weights.subscriber()
        self._rng = np.random.default_rng(seed)
        self._environments = make_environments(ENVIRONMENTS_PER_ACTOR, sparse_reward=True)
        self._observation, _ = self._environments.reset(seed=seed)
        self._restarted = np.zeros(ENVIRONMENTS_PER_ACTOR, bool)

    def run(self) -> None:
        """Act until the program stops."""
        view = self._weights.require(timeout_s=None)  # waits for the first
        while not lp.wait_for_stop(0):
            rollout = self._play(view.weights)
            # waits while the learner has not taken the last round
            self._replay.insert_batch(TABLE, rollout, policy_version=view.version)
            view = self._weights.latest(newer_than=view.version) or view

    def _play(self, weights: Weights) -> dict[str, np.ndarray]:
        """One rollout of each environment: arrays [environment, step, …]."""
        columns: dict[str, list[np.ndarray]] = {}
        for _ in range(STEPS):
            action, likelihood = self._choose(weights)
            observation, reward, fell, time_up, _ = self._environments.step(action)
            step = {
                "observation": self._observation,
                "action": action,
                "likelihood": likelihood,
                "reward": reward.astype(np.float32),
                "fell": fell,
                "ended": fell | time_up,
                "restarted": self._restarted,  # the action was ignored, and the next episode began
                "after": observation,
            }
            for name, values in step.items():
                columns.setdefault(name, []).append(values)
            self._observation, self._restarted = observation, fell | time_up
        return {name: np.stack(values, axis=1) for name, values in columns.items()}

    def _choose(self, weights: Weights) -> tuple[Integers, Floats]:
        """An action for each environment, and the logarithm of its probability."""
        preferences = action_values(weights, self._observation)
        logarithms = preferences - np.log(np.exp(preferences).sum(axis=1, keepdims=True))
        right = self._rng.random(len(logarithms)) < np.exp(logarithms[:, 1])
        action: Integers = right.astype(np.int64)
        return action, logarithms[np.arange(len(action)), action]


class Learner:
    """Takes rollouts out of the queue, learns from them, and publishes its policy.

    Args:
        replay: client of the queue.
        weights: client of the node that holds it.
        rollouts: how many it takes at a time.
        seed: of the networks' first weights, and of the order of steps.
    """

    def __init__(self, replay: kr.Client, weights: kw.Client, rollouts: int, seed: int) -> None:
        import torch  # noqa: PLC0415 - two seconds and 200 MB, which only this node's process has to pay

        from examples.ppo_queue.agent import Agent  # noqa: PLC0415 - imports torch

        torch.set_num_threads(1)
        self._replay = replay
        self._rollouts = rollouts
        self._agent = Agent(seed)
        self._publisher = weights.publisher()
        self._lock = threading.Lock()  # checkpoints are written beside run()

    def save(self, folder: Path) -> None:
        """Keep what has been learnt, for ``kourou run --resume``."""
        with self._lock:
            self._agent.save(folder / "agent.pt")

    def load(self, folder: Path) -> None:
        """Go on from there."""
        self._agent.load(folder / "agent.pt")

    def run(self) -> None:
        """Learn until the program stops."""
        self._publisher.publish(self._agent.weights())
        # Nothing is taken ahead: a rollout that waited here would be older when its turn comes.
        with self._replay.sampler(TABLE, self._rollouts, max_in_flight=0) as batches:
            for batch in batches:
                with self._lock:
                    self._agent.update(batch.data)
                self._publisher.publish(self._agent.weights())
