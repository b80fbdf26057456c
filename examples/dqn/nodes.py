"""The nodes that have work of their own: actors, learner and evaluator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import kourou as lp
from examples.dqn.policy import Floats, Weights, choose_actions, make_environments, play_episodes
from examples.dqn.replay import BATCH_SIZE, TABLE
from examples.dqn.transitions import Step, Transitions, fold
from kourou import replay as kr, weights as kw

N_STEPS = 3


class Actor:
    """Plays with the latest weights and sends what it sees to the replay buffer.

    Args:
        replay: client of the replay buffer.
        weights: client of the learner's weights.
        epsilons: how often each of its environments takes a random action. They differ, so that some explore far from
            what the others do well, and no schedule is needed.
        seed: of its environments and of its random actions.
    """

    STEPS_PER_ROUND = 16
    GAMMA = 0.99

    def __init__(self, replay: kr.Client, weights: kw.Client, epsilons: Floats, seed: int) -> None:
        self._replay = replay
        self._weights = weights.subscriber()
        self._epsilons = epsilons
        self._rng = np.random.default_rng(seed)
        self._environments = make_environments(len(epsilons), sparse_reward=True)
        self._observation, _ = self._environments.reset(seed=seed)
        self._ended = np.zeros(len(epsilons), bool)
        self._steps: list[Step] = []

    def run(self) -> None:
        """Act until the program stops."""
        view = self._weights.require(timeout_s=None)  # waits for the first
        while not lp.wait_for_stop(0):
            self._act(view.weights)
            self._send(fold(self._steps, N_STEPS, self.GAMMA), view.weights)
            del self._steps[:-N_STEPS]
            view = self._weights.latest(newer_than=view.version) or view

    def _send(self, transitions: Transitions, weights: Weights) -> None:
        """Insert transitions. It takes its time when actors are ahead of the learner: so this is the brake."""
        del weights  # every transition has the same priority
        self._replay.insert_batch(TABLE, transitions)

    def _act(self, weights: Weights) -> None:
        """Take some steps."""
        for _ in range(self.STEPS_PER_ROUND):
            action = choose_actions(weights, self._observation, self._epsilons, self._rng)
            observation, reward, fell, time_up, _ = self._environments.step(action)
            ended = fell | time_up
            self._steps.append(Step(self._observation, action, reward, fell, ended, restarted=self._ended))
            self._observation, self._ended = observation, ended


class Learner:
    """Draws batches, takes gradient steps, and publishes its weights.

    Args:
        replay: client of the replay buffer.
        weights: client of the node that holds them.
        seed: of the network's first weights.
    """

    STEPS_PER_WEIGHTS = 8
    BATCHES_AHEAD = 16

    def __init__(self, replay: kr.Client, weights: kw.Client, seed: int) -> None:
        import torch  # noqa: PLC0415 - two seconds and 200 MB, which only this node's process has to pay

        from examples.dqn.agent import Agent  # noqa: PLC0415 - imports torch

        torch.set_num_threads(1)
        self._replay = replay
        self._agent = Agent(seed)
        self._publisher = weights.publisher()

    def run(self) -> None:
        """Learn until the program stops. The next batches are under way while this one is learnt from."""
        self._publisher.publish(self._agent.weights())
        with self._replay.sampler(TABLE, BATCH_SIZE, max_in_flight=self.BATCHES_AHEAD * BATCH_SIZE) as batches:
            for step, batch in enumerate(batches, 1):
                off = self._agent.update(batch.data)
                if step % self.STEPS_PER_WEIGHTS == 0:
                    self._publisher.publish(self._agent.weights())
                    lp.log(step, error=off.mean())


class Evaluation(NamedTuple):
    """One point of the learning curve."""

    unix_time: float
    steps: int
    """Steps that the actors had taken by then."""
    returns: Floats
    """Of each episode that was played."""

    @property
    def mean(self) -> float:
        """The mean return."""
        return float(self.returns.mean())


def moving_means(curve: Sequence[Evaluation], window: int) -> list[float]:
    """At each evaluation, the mean over it and those before it: ``window`` in all, or as many as there are."""
    means = [point.mean for point in curve]
    return [float(np.mean(means[max(0, end - window) : end])) for end in range(1, len(means) + 1)]


class Evaluator:
    """Measures, again and again, how well the learner's latest weights do without exploration.

    Args:
        weights: client of the learner's weights.
        replay: client of the replay buffer, which knows how many steps have been taken.
        table: where they are counted.
        seed: of the episodes.
        steps_per_item: how many each item of the table counts for.
    """

    EPISODES = 20
    PAUSE_S = 0.2

    def __init__(
        self, weights: kw.Client, replay: kr.Client, *, table: str, seed: int, steps_per_item: int = 1
    ) -> None:
        self._weights = weights.subscriber()
        self._replay = replay
        self._table = table
        self._steps_per_item = steps_per_item
        self._rng = np.random.default_rng(seed)
        self._curve: list[Evaluation] = []

    def run(self) -> None:
        """Evaluate until the program stops."""
        while not lp.wait_for_stop(self.PAUSE_S):
            view = self._weights.require(timeout_s=None)
            items = self._replay.server_info()[self._table].inserts
            returns = play_episodes(view.weights, self.EPISODES, seed=int(self._rng.integers(2**31)))
            evaluation = Evaluation(time.time(), items * self._steps_per_item, returns)
            self._curve.append(evaluation)
            lp.log(evaluation.steps, mean_return=evaluation.mean, lowest_return=returns.min())

    def curve(self, since: int = 0) -> list[Evaluation]:
        """The evaluations so far, without the first ``since`` of them."""
        return self._curve[since:]
