"""Inserts and samples that wait until their table's limiter lets them go on."""

from __future__ import annotations

import time
from collections.abc import Callable

from kourou.replay.protocol.item_batches import Items, SampledItems
from kourou.replay.table.completion import Completion


class Request:
    """Something that a table does when it can, in the order of arrival.

    Args:
        wanted: whether anybody still waits for it; asked before anything is done.
        callback: called at its end.

    Attributes:
        give_up: ends the wait; None until it has to wait, and at its end.
        future: completed with None when all of it is done.
    """

    def __init__(self, wanted: Callable[[], bool], callback: Callable[[Completion[None]], object]) -> None:
        self.wanted = wanted
        self.since = time.monotonic()
        self.give_up: Callable[[], object] | None = None

        def end(completion: Completion[None]) -> None:
            self.give_up = None  # which has the answer, too
            callback(completion)

        self.future = Completion[None](end)


class InsertRequest(Request):
    """Items to be inserted, whose references are the request's until they become the table's.

    Attributes:
        done: how many are in.
    """

    def __init__(
        self, items: Items, wanted: Callable[[], bool], callback: Callable[[Completion[None]], object]
    ) -> None:
        super().__init__(wanted, callback)
        self.items = items
        self.done = 0

    def rest(self) -> Items:
        """What is not in yet."""
        return self.items.part(self.done, len(self.items))


class SampleRequest(Request):
    """Items to be drawn.

    Args:
        count: how many.
        most: if more of them can be drawn at once, as many multiples of ``count`` as that, up to ``most``.

    Attributes:
        left: how many are still to be drawn.
        parts: what was drawn so far; in the end, the samples.
    """

    def __init__(
        self,
        count: int,
        wanted: Callable[[], bool],
        callback: Callable[[Completion[None]], object],
        *,
        most: int = 0,
    ) -> None:
        super().__init__(wanted, callback)
        self.left = count
        self.most = most
        self.parts: list[SampledItems] = []
