"""What a run gives back."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class LaunchResult(Generic[R]):
    """The return values of all workers."""

    results: dict[str, list[R]]
    """By host, then by local rank."""

    def rank(self, i: int) -> R:
        """What the worker of global rank ``i`` returned; ranks count through the hosts in their order.

        Raises:
            IndexError: there is no such rank.
        """
        values = [value for host in self.results.values() for value in host]
        if not 0 <= i < len(values):
            raise IndexError(f"there is no rank {i}: the run had {len(values)} workers, ranks 0 to {len(values) - 1}")
        return values[i]

    def index(self, hostname: str, local_rank: int) -> R:
        """What one worker of one host returned.

        Raises:
            KeyError: no such host.
            IndexError: no such local rank.
        """
        if hostname not in self.results:
            raise KeyError(f"{hostname!r} is no host of this run; its hosts are {', '.join(self.results)}")
        values = self.results[hostname]
        if not 0 <= local_rank < len(values):
            raise IndexError(f"{hostname} had {len(values)} workers, and none of local rank {local_rank}")
        return values[local_rank]


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
