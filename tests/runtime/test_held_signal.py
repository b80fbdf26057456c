"""A signal that may come before anybody is there to act on it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from kourou.runtime.stopping.held_signal import HeldSignal


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_it_is_kept_until_there_is_somebody_to_act_on_it() -> None:
    held, acts = HeldSignal(signal.SIGUSR1), list[str]()
    signal.raise_signal(signal.SIGUSR1)
    assert held.came
    held.deliver_to(lambda: acts.append("early"))
    assert acts == ["early"]
    signal.raise_signal(signal.SIGUSR1)
    assert acts == ["early"] * 2


def test_it_is_acted_on_when_it_comes() -> None:
    held, acts = HeldSignal(signal.SIGUSR1), list[str]()
    held.deliver_to(lambda: acts.append("now"))
    assert not held.came
    assert acts == []
    signal.raise_signal(signal.SIGUSR1)
    assert acts == ["now"]
