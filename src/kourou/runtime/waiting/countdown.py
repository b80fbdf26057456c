"""Waiting for many at a cost that does not depend on how often one looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Countdown:
    """Names until something holds for each of them.

    What held once is not asked again, so n looks at n names take 2n questions, not n².
    """

    def __init__(self, names: Iterable[str], holds: Callable[[str], bool]) -> None:
        self._left = list(names)
        self._holds = holds

    def add(self, names: Iterable[str]) -> None:
        """Wait for these, too."""
        self._left += names

    def done(self) -> bool:
        """It holds for all."""
        while self._left and self._holds(self._left[-1]):
            self._left.pop()
        return not self._left
