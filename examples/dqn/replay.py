"""The replay buffer: a node that actors fill and the learner draws from."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import kourou as lp
from examples.dqn.transitions import Transitions, empty_transitions


class ReplayStats(NamedTuple):
    """What the buffer has seen so far."""

    steps: int
    episodes: int
    size: int
    batches: int


class ReplayBuffer:
    """The latest transitions, and the brake that keeps acting and learning in proportion.

    ``add`` blocks while actors are ahead of the learner, ``sample`` while the learner is ahead of the actors. Thus the
    outcome depends little on how fast either is on the machine at hand.

    Args:
        capacity: how many transitions are kept; the oldest go first.
        batch_size: transitions in one batch.
        batches_per_step: batches drawn for each transition added, in the long run.
        warm_up: transitions to wait for before the first batch.
        seed: of the drawing.
    """

    def __init__(self, *, capacity: int, batch_size: int, batches_per_step: float, warm_up: int, seed: int) -> None:
        self._columns: list[npt.NDArray[Any]] = list(empty_transitions(capacity))
        self._capacity = capacity
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._warm_up = warm_up
        self._slack = warm_up * batches_per_step
        self._rng = np.random.default_rng(seed)
        self._steps = self._episodes = self._batches = 0
        self._changed = threading.Condition()
        self._stopping = False
        lp.register_stop_handler(self._stop)

    def add(self, transitions: Transitions, episodes: int) -> None:
        """Store transitions, and count the episodes that ended with them."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._backlog() < self._slack)
            rows = np.arange(self._steps, self._steps + len(transitions.action)) % self._capacity
            for column, values in zip(self._columns, transitions, strict=True):
                column[rows] = values
            self._steps += len(rows)
            self._episodes += episodes
            self._changed.notify_all()

    def sample(self, batches: int) -> list[Transitions] | None:
        """Draw batches; None once the program stops."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or (self._steps >= self._warm_up and self._backlog() > -self._slack)
            )
            if self._stopping:
                return None
            self._batches += batches
            self._changed.notify_all()
            rows = self._rng.integers(self._size(), size=(batches, self._batch_size))
            return [Transitions._make(column[chosen] for column in self._columns) for chosen in rows]

    def stats(self) -> ReplayStats:
        """Say what has been added and drawn."""
        with self._changed:
            return ReplayStats(self._steps, self._episodes, self._size(), self._batches)

    def _size(self) -> int:
        return min(self._steps, self._capacity)

    def _backlog(self) -> float:
        """Batches that the learner has yet to draw to be in proportion; negative if it is ahead."""
        return (self._steps - self._warm_up) * self._batches_per_step - self._batches

    def _stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
