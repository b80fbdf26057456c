"""Learning: policy, value function and one round of PPO, in torch. Knows nothing of processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from examples.dqn.policy import ACTIONS, OBSERVATION_SIZE, Floats

HIDDEN = 64
LEARNING_RATE = 2e-3
EPOCHS = 6
MINIBATCH = 256
GAMMA = 0.99
LAMBDA = 0.95
CLIP = 0.2
ENTROPY_WEIGHT = 0.005
MAX_GRADIENT_NORM = 0.5


def make_network(outputs: int) -> nn.Sequential:
    """Maps observations to so many numbers."""
    return nn.Sequential(
        nn.Linear(OBSERVATION_SIZE, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, outputs),
    )


class Agent:
    """Proximal policy optimisation with a clipped objective.

    Args:
        seed: of the networks' first weights, and of the order of steps.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self._policy = make_network(ACTIONS)
        self._value = make_network(1)
        self._parameters = [*self._policy.parameters(), *self._value.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, lr=LEARNING_RATE, fused=True)
        self._parts: tuple[nn.Module | torch.optim.Adam, ...] = (self._policy, self._value, self._optimizer)

    def update(self, rollouts: Mapping[str, np.ndarray]) -> None:
        """Learn from rollouts: arrays [rollout, step, …]."""
        columns = {name: torch.from_numpy(array) for name, array in rollouts.items()}
        with torch.no_grad():
            value = self._value(columns["observation"]).squeeze(-1)
            after = self._value(columns["after"]).squeeze(-1)
        columns["advantage"] = advantages(columns, value, after)
        columns["return"] = columns["advantage"] + value
        real = ~columns["restarted"]
        steps = {name: column[real] for name, column in columns.items()}
        count = len(steps["action"])
        for _ in range(EPOCHS):
            for chosen in torch.randperm(count).split(MINIBATCH):
                self._step({name: column[chosen] for name, column in steps.items()})

    def save(self, path: Path) -> None:
        """Write all that learning goes on from."""
        torch.save([part.state_dict() for part in self._parts], path)

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        for part, state in zip(self._parts, torch.load(path, weights_only=True), strict=True):
            part.load_state_dict(state)

    def weights(self) -> list[Floats]:
        """A copy of the policy's weights, as :mod:`examples.dqn.policy` uses them."""
        return [parameter.detach().numpy().copy() for parameter in self._policy.parameters()]

    def _step(self, batch: Mapping[str, Tensor]) -> None:
        """Take one gradient step."""
        logarithms = self._policy(batch["observation"]).log_softmax(dim=-1)
        chosen = logarithms.gather(1, batch["action"].unsqueeze(1)).squeeze(1)
        advantage = batch["advantage"]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = (chosen - batch["likelihood"]).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
        entropy = -(logarithms.exp() * logarithms).sum(dim=-1).mean()
        miss = (self._value(batch["observation"]).squeeze(-1) - batch["return"]).square().mean()
        self._optimizer.zero_grad()
        (miss - gain - ENTROPY_WEIGHT * entropy).backward()
        nn.utils.clip_grad_norm_(self._parameters, MAX_GRADIENT_NORM)
        self._optimizer.step()


def advantages(columns: Mapping[str, Tensor], value: Tensor, after: Tensor) -> Tensor:
    """How much better each step was than expected, weighing one step and many (generalised advantage estimation)."""
    surprise = columns["reward"] + GAMMA * after * ~columns["fell"] - value
    going_on = ~columns["ended"] & ~columns["restarted"]
    found = torch.zeros_like(surprise)
    later = torch.zeros_like(surprise[:, 0])
    for step in reversed(range(surprise.shape[1])):
        later = surprise[:, step] + GAMMA * LAMBDA * going_on[:, step] * later
        found[:, step] = later
    return found
