"""What actors send to the replay buffer, and how they make it from what they saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from examples.dqn.policy import Floats, Integers

Flags = npt.NDArray[np.bool_]


class Transitions(NamedTuple):
    """Columns of equal length: one transition a row."""

    observation: Floats
    action: Integers
    reward: Floats
    """The discounted sum of the rewards of up to n steps."""
    discount: Floats
    """The weight of the value of ``after``: gamma to the number of those steps, or 0 if the pole fell."""
    after: Floats
    """The observation after those steps."""


class Step(NamedTuple):
    """One step of an actor's environments: arrays with a row for each of them."""

    observation: Floats
    action: Integers
    reward: Floats
    fell: Flags
    """The episode ended because it failed, so that no reward can follow."""
    ended: Flags
    """The episode ended, in failure or because its time was up."""
    restarted: Flags
    """The environment ignored the action and started the next episode."""


def fold(steps: Sequence[Step], n: int, gamma: float) -> Transitions:
    """Make n-step transitions from consecutive steps: of all that start ``n`` or more steps before the end."""
    column = Step._make(np.stack(values) for values in zip(*steps, strict=True))  # each [time, environment, ...]
    starts = len(steps) - n
    reward = np.zeros(column.reward[:starts].shape, np.float32)
    discount = np.ones_like(reward)
    after = column.observation[:starts]
    going = np.ones(reward.shape, bool)
    for i in range(n):
        now = Step._make(values[i : i + starts] for values in column)
        reward += np.where(going, discount * now.reward, 0.0)
        discount = np.where(going, discount * gamma * ~now.fell, discount)
        after = np.where(going[..., None], column.observation[i + 1 : i + 1 + starts], after)
        going &= ~now.ended
    real = ~column.restarted[:starts]
    return Transitions(
        observation=column.observation[:starts][real],
        action=column.action[:starts][real],
        reward=reward[real],
        discount=discount[real].astype(np.float32),
        after=after[real],
    )
