"""What Ape-X adds to the actors and the learner of DQN: priorities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import kourou as lp
from examples.dqn.nodes import Actor, Learner
from examples.dqn.policy import Floats, Weights, action_values
from examples.dqn.replay import BATCH_SIZE, TABLE
from examples.dqn.transitions import Transitions

LEAST_PRIORITY = 1e-3  # so that nothing is out of reach for ever
IMPORTANCE_EXPONENT = 0.4
AVERAGING_RATE = 0.1
"""Of new weights among those that are handed out. What surprises changes the latest ones so much that they swing;
their average does not."""


class ApexActor(Actor):
    """An actor that says how much each transition surprised it, so that new ones need not wait for the learner."""

    GAMMA = 0.997  # what is 200 steps ahead still matters, so the cart learns not to drift out of the picture

    def _send(self, transitions: Transitions, weights: Weights) -> None:
        surprise = np.abs(temporal_difference(weights, transitions))
        self._replay.insert_batch(TABLE, transitions, surprise + LEAST_PRIORITY)


class ApexLearner(Learner):
    """A learner that draws by priority, corrects for what it draws too often, and writes the new priorities back."""

    BATCHES_AHEAD = 2  # what is drawn further ahead is drawn by older priorities

    def run(self) -> None:
        """Learn until the program stops."""
        average = self._agent.weights()
        self._publisher.publish(average)
        with self._replay.sampler(TABLE, BATCH_SIZE, max_in_flight=self.BATCHES_AHEAD * BATCH_SIZE) as batches:
            for step, batch in enumerate(batches, 1):
                importance = importance_weights(batch.probabilities, batch.info["table_size"])
                surprise = self._agent.update(batch.data, importance)
                self._replay.mutate_priorities(TABLE, (batch.keys, surprise + LEAST_PRIORITY))
                if step % self.STEPS_PER_WEIGHTS == 0:
                    average = blend(average, self._agent.weights(), AVERAGING_RATE)
                    self._publisher.publish(average)
                    lp.log(step, error=surprise.mean(), importance=importance.mean())


def temporal_difference(weights: Weights, transitions: Transitions) -> Floats:
    """What each transition was worth beyond what these weights expect of it."""
    rows = np.arange(len(transitions.action))
    expected: Floats = action_values(weights, transitions.observation)[rows, transitions.action]
    best = action_values(weights, transitions.after).max(axis=1)
    return transitions.reward + transitions.discount * best - expected


def blend(old: Weights, new: Weights, rate: float) -> list[Floats]:
    """Weights between the two."""
    return [before + np.float32(rate) * (after - before) for before, after in zip(old, new, strict=True)]


def importance_weights(probabilities: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> Floats:
    """How much each draw counts, so that frequent ones do not count more in sum; at most 1."""
    weights = (probabilities * sizes) ** -IMPORTANCE_EXPONENT
    return (weights / weights.max()).astype(np.float32)
