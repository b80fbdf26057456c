"""The future of a run."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

from kourou.spmd.launch.results import LaunchResult

R = TypeVar("R")


class LaunchFuture(concurrent.futures.Future[LaunchResult[R]]):
    """What ``Launcher.submit`` returns. Unlike other futures, it can be cancelled while it runs."""

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        super().__init__()
        self._on_cancel = on_cancel

    def running(self) -> bool:
        """Whether workers are there, or will be."""
        return not self.done()

    def cancel(self) -> bool:
        """End all workers; ``result()`` raises CancelledError once they are gone. False if the run has ended before."""
        if self.done():
            return self.cancelled()
        self._on_cancel()
        return True

    def set_cancelled(self) -> None:
        """All workers are gone; called by the run."""
        super().cancel()
        self.set_running_or_notify_cancel()
