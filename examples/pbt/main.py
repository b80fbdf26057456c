"""Population-based training: networks that learn side by side, and inherit from those that learn well.

Each member of the population is a node that trains a small network. After every round the controller removes the worst
ones and adds children of the best, which go on with their parent's weights and try another learning rate.

    python examples/pbt/main.py --launch-type local_mp
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TypeAlias

import numpy as np

import kourou as lp

MEMBERS = 6
REPLACED = 2  # after each round
ROUNDS = 8
STEPS = 300  # of gradient descent, in a round
HIDDEN = 32

Weights: TypeAlias = "list[np.ndarray]"


@dataclasses.dataclass(frozen=True)
class Report:
    """How a member fares."""

    name: str
    learning_rate: float
    error: float
    weights: Weights


class Member:
    """A network with one hidden layer, which learns a sine.

    Args:
        learning_rate: of its gradient descent.
        weights: its parent's; None: random ones.
    """

    def __init__(self, learning_rate: float, weights: Weights | None = None) -> None:
        self._learning_rate = learning_rate
        random = np.random.default_rng(lp.get_context().index)
        self._x = np.linspace(-3.0, 3.0, 128)[:, None]
        self._y = np.sin(2.0 * self._x)
        self._weights = weights or [
            random.normal(0.0, 1.0, (1, HIDDEN)),
            random.normal(0.0, 1.0, HIDDEN),
            random.normal(0.0, 0.1, (HIDDEN, 1)),
            np.zeros(1),
        ]

    def train(self, steps: int) -> Report:
        """Learn for a while."""
        error = [self._step() for _ in range(steps)][-1]
        return Report(lp.get_context().name, self._learning_rate, error, self._weights)

    def _step(self) -> float:
        w1, b1, w2, b2 = self._weights
        hidden = np.tanh(self._x @ w1 + b1)
        wrong = hidden @ w2 + b2 - self._y
        below = wrong @ w2.T * (1.0 - hidden**2)
        gradients = [self._x.T @ below, below.sum(0), hidden.T @ wrong, wrong.sum(0)]
        rate = self._learning_rate / len(self._x)
        self._weights = [
            weight - rate * np.clip(gradient, -1e3, 1e3)
            for weight, gradient in zip(self._weights, gradients, strict=True)
        ]
        return float(np.mean(wrong**2))


def evolve(population: lp.CourierClient, seed: int) -> None:
    """Let members train, and replace the worst by children of the best: exploit, and explore."""
    random = np.random.default_rng(seed)
    this = lp.get_context()
    for number in range(1, ROUNDS + 1):
        reports = sorted(population.train(STEPS), key=lambda report: report.error)
        best = reports[0]
        print(f"Round {number}: {best.name} errs by {best.error:.4f}, with a rate of {best.learning_rate:.3g}.")
        if number < ROUNDS:
            for parent, loser in zip(reports[:REPLACED], reports[-REPLACED:], strict=True):
                rate = parent.learning_rate * random.choice([0.5, 3.0])
                this.add_node(lp.CourierNode(Member, rate, parent.weights), label="member")
                this.remove(loser.name)
    lp.stop()


def make_program(seed: int = 0) -> lp.Program:
    program = lp.Program("pbt")
    program.add_node(lp.PyNode(evolve, program.handle_to_group("member"), seed), label="controller")
    with program.group("member"):
        for rate in np.geomspace(1e-4, 1e-2, MEMBERS):  # too small, all of them
            program.add_node(lp.CourierNode(Member, float(rate)))
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a population of networks.")
    parser.add_argument("--launch-type", help="local_mt (threads) or local_mp (processes)")
    parser.add_argument("--seed", type=int, default=0, help="of the rates that children try")
    options = parser.parse_args()
    lp.launch(make_program(options.seed), options.launch_type).wait()


if __name__ == "__main__":
    main()
