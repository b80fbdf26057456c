"""Two agents that balance a pole with a linear policy: one keeps what was better, one learns a distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from kourou.experiments import Agent


class LinearAgent(Agent):
    """Pushes to the side that four weights say. Budgets are episodes."""

    def __init__(self, env: Any, **handed_over: Any) -> None:
        super().__init__(env, **handed_over)
        self.weights = np.zeros(4)
        self.episodes = 0

    def fit(self, budget: int) -> None:  # type: ignore[override] # it takes no other arguments
        until = self.episodes + budget
        while self.episodes < until:
            self.improve()
            self.writer.add_scalar("return", self.episode(self.eval_env, self.weights), self.episodes)

    def eval(self) -> float:  # type: ignore[override] # as above
        return self.episode(self.eval_env, self.weights)

    def improve(self) -> None:
        """Train for a few episodes."""
        raise NotImplementedError

    def try_out(self, weights: np.ndarray) -> float:
        self.episodes += 1
        return self.episode(self.env, weights)

    @staticmethod
    def episode(env: Any, weights: np.ndarray) -> float:
        observation, _ = env.reset()
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(int(observation @ weights > 0))
            total += float(reward)
            ended = terminated or truncated
        return total


class HillClimbing(LinearAgent):
    """Moves to a random neighbour if that one does better."""

    name = "hill climbing"

    def __init__(self, env: Any, step: float = 0.05, **handed_over: Any) -> None:
        super().__init__(env, **handed_over)
        self.step = step
        self.best = -np.inf

    def improve(self) -> None:
        neighbour = self.weights + self.step * self.rng.normal(size=4)
        score = self.try_out(neighbour)
        if score >= self.best:
            self.weights, self.best = neighbour, score


class CrossEntropy(LinearAgent):
    """Draws ten policies, and goes on from the mean and the spread of the best three."""

    name = "cross-entropy"

    def __init__(self, env: Any, spread: float = 0.5, **handed_over: Any) -> None:
        super().__init__(env, **handed_over)
        self.spread = np.full(4, spread)

    @classmethod
    def sample_parameters(cls, trial: Any) -> dict[str, Any]:
        return {"spread": trial.suggest_float("spread", 0.01, 2.0, log=True)}

    def improve(self) -> None:
        drawn = self.weights + self.spread * self.rng.normal(size=(10, 4))
        scores = [self.try_out(weights) for weights in drawn]
        elite = drawn[np.argsort(scores)[-3:]]
        self.weights, self.spread = elite.mean(axis=0), elite.std(axis=0) + 0.01
