"""Learning: the network, the loss and one step of DQN, in torch. Knows nothing of processes."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.dqn.policy import ACTIONS, OBSERVATION_SIZE, Floats
from examples.dqn.transitions import Transitions

HIDDEN = 128
LEARNING_RATE = 1e-3
TARGET_RATE = 0.02
MAX_GRADIENT_NORM = 10.0


def make_network() -> nn.Sequential:
    """Maps observations to the value of each action."""
    return nn.Sequential(
        nn.Linear(OBSERVATION_SIZE, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, ACTIONS),
    )


class Agent:
    """Double DQN with n-step returns and a target network that follows slowly.

    Args:
        seed: of the network's first weights.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self._online = make_network()
        self._target = copy.deepcopy(self._online).requires_grad_(False)

    @functools.cached_property
    def _optimizer(self) -> torch.optim.Adam:
        """Made for the first step: for its first optimizer torch imports its compiler, and actors need weights."""
        return torch.optim.Adam(self._online.parameters(), lr=LEARNING_RATE, fused=True)

    def update(self, batch: Transitions, importance: Floats | None = None) -> Floats:
        """Take one gradient step; by how much each value was off.

        Args:
            batch: of n transitions.
            importance: how much each counts, [n]; None for all alike.
        """
        value, target = self._values(*(torch.from_numpy(column) for column in batch))
        loss = functional.smooth_l1_loss(value, target, reduction="none")
        loss = (loss if importance is None else loss * torch.from_numpy(importance)).mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._online.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self._target.parameters(), self._online.parameters(), strict=True):
                slow.lerp_(fast, TARGET_RATE)
        off: Floats = (value.detach() - target).abs().numpy()
        return off

    def weights(self) -> list[Floats]:
        """A copy of the online network's weights, as :mod:`examples.dqn.policy` uses them."""
        return [parameter.detach().numpy().copy() for parameter in self._online.parameters()]

    def _values(
        self, observation: Tensor, action: Tensor, reward: Tensor, discount: Tensor, after: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The values of the actions that were taken, and what they should be."""
        with torch.no_grad():
            # Double DQN: the online network chooses the next action, the target network says what it is worth.
            best = self._online(after).argmax(dim=1, keepdim=True)
            target = reward + discount * self._target(after).gather(1, best).squeeze(1)
        value = self._online(observation).gather(1, action.unsqueeze(1)).squeeze(1)
        return value, target
