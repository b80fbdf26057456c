"""Busy waits: polling sees what comes soon, and is given up where nothing does."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kourou.courier.lanes.busy_wait import BusyWait


class Source:
    """What a busy_wait looks at."""

    def __init__(self) -> None:
        self.looks = 0
        self.news_after: int | None = None  # so many looks

    def look(self, timeout: int) -> list[Any]:
        assert timeout == 0, "a busy_wait that waits"
        self.looks += 1
        return ["news"] if self.news_after is not None and self.looks > self.news_after else []

    def polled(self, busy_wait: BusyWait) -> bool:
        """Whether the next wait begins with looking."""
        before = self.looks
        busy_wait.poll()
        return self.looks > before


@pytest.fixture
def source() -> Source:
    return Source()


def test_news_that_come_at_once_are_seen(source: Source) -> None:
    source.news_after = 0
    assert BusyWait(source.look).poll() == ["news"]
    assert source.looks == 1


def test_each_vain_attempt_is_followed_by_more_waits_without_one(source: Source) -> None:
    busy_wait = BusyWait(source.look)
    attempts = [number for number in range(1, 600) if source.polled(busy_wait)]
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(attempts)]
    assert gaps == [0, 1, 2, 4, 8, 16, 32, 64, 128, 128, 128], "no news at all"


def test_news_bring_busy_waits_back(source: Source) -> None:
    busy_wait = BusyWait(source.look)
    for _ in range(600):
        busy_wait.poll()
    source.news_after = 0
    attempts = [source.polled(busy_wait) for _ in range(600)]
    assert all(attempts[-300:]), "it pays again"
    source.news_after = None
    assert [source.polled(busy_wait) for _ in range(3)] == [True, True, False], "a single vain attempt is forgiven"
