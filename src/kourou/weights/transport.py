"""Another way for the weights themselves: what is published on a board, then, is how to get them by that way."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol


class Transport(Protocol):
    """Brings weights from a publisher to its subscribers: NCCL, an inference engine's own way, an object store.

    Versions, waits, ages, lags and their bounds stay as they are. The publisher and the subscribers each have one.
    """

    def offer(self, weights: Any) -> Any:
        """In the publisher, before anybody is told of the version: whatever a reader needs to receive it, pickled."""
        ...

    def send(self, weights: Any, offer: Any) -> None:
        """In the publisher, once readers are told: sends, where that takes both ends at once."""
        ...

    def receive(self, offer: Any, target: Any) -> Any:
        """In a reader that looks at a view's weights: them; or loads them into ``target``, if that is not None."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carried:
    """What is on the board in the place of weights that a transport brings."""

    offer: Any
