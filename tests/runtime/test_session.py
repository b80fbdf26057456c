"""Sessions: everything arrives once and in order, wherever connections break."""

from __future__ import annotations

import random

import pytest

from kourou.runtime.host_agent.session import UNREADABLE, BrokenSession, Session


class Line:
    """Both ends, and what is on its way between them."""

    def __init__(self) -> None:
        self.ends = Session(), Session()
        self.way = bytearray(), bytearray()
        self.arrived: tuple[list[object], list[object]] = ([], [])

    def write(self, end: int) -> None:
        if (frame := self.ends[end].take()) is not None:
            self.way[end].extend(frame)

    def read(self, end: int, size: int) -> None:
        piece = bytes(self.way[1 - end][:size])
        del self.way[1 - end][:size]
        self.arrived[end].extend(message[0] for message in self.ends[end].feed(piece))

    def cut(self) -> None:
        for way in self.way:
            way.clear()
        heard = [end.heard for end in self.ends]
        self.ends[0].resume(heard[1])
        self.ends[1].resume(heard[0])

    def finish(self) -> None:
        for _ in range(3):
            for end in (0, 1):
                while frame := self.ends[end].take():
                    self.way[end].extend(frame)
                self.way[end].extend(self.ends[end].sign_of_life())
            for end in (0, 1):
                self.read(end, 1 << 30)


@pytest.mark.parametrize("seed", range(40))
def test_everything_arrives_once_and_in_order_though_connections_break(seed: int) -> None:
    # Given
    chance, line = random.Random(seed), Line()
    sent: tuple[list[object], list[object]] = ([], [])
    # When both ends speak, and what is on its way is lost now and then
    for number in range(400):
        end, what = chance.randrange(2), chance.random()
        if what < 0.3:
            line.ends[end].put((number, b"x" * chance.choice([1, 100, 100_000])), late=chance.random() < 0.3)
            sent[end].append(number)
        elif what < 0.65:
            line.write(end)
        elif what < 0.95:
            line.read(end, chance.choice([1, 20, 1000, 1 << 20]))
        else:
            line.cut()
    line.cut()
    line.finish()
    # Then
    assert line.arrived == (sent[1], sent[0])


def test_what_is_urgent_overtakes_what_waits_and_nothing_that_was_sent() -> None:
    line = Line()
    line.ends[0].put(("sent",))
    line.write(0)
    line.ends[0].put(("waits",))
    line.ends[0].put(("urgent",), first=True)
    line.cut()
    line.finish()
    assert line.arrived[1] == ["sent", "urgent", "waits"]


def test_who_sends_is_told_when_much_waits_for_a_connection() -> None:
    line = Line()
    told: list[bool] = []
    line.ends[0].on_full = told.append
    for number in range(100):
        line.ends[0].put((number, b"x" * 100_000))
    assert told == [True]
    for _ in range(10):
        line.finish()
    assert told == [True, False]
    assert line.arrived[1] == list(range(100))


def test_one_that_is_dropped_keeps_nothing_and_lets_go_of_who_waits() -> None:
    # Given one with much to say, some of it on its way
    one = Session()
    told: list[bool] = []
    one.on_full = told.append
    for number in range(100):
        one.put((number, b"x" * 100_000))
    one.take()
    # When
    one.drop()
    one.put(("more",), first=True)
    # Then
    one.wait_for_room()
    assert told == [True]
    assert one.take() is None


def test_another_session_is_refused() -> None:
    one = Session()
    one.put(("hello",))
    one.take()
    with pytest.raises(BrokenSession):
        one.resume(7)


def test_one_that_was_refused_leaves_the_session_as_it_was() -> None:
    line = Line()
    line.ends[0].put(("hello",))
    line.ends[0].take()
    with pytest.raises(BrokenSession):
        line.ends[0].resume(7)
    line.cut()
    line.finish()
    assert line.arrived[1] == ["hello"]


class NotHere:
    def __reduce__(self) -> tuple[object, ...]:
        return missing, ()


def missing() -> None:
    raise ModuleNotFoundError("no such version")


def test_what_cannot_be_unpickled_is_told_and_loses_nothing_else() -> None:
    one, other = Session(), Session()
    for message in (("before",), ("odd", NotHere()), ("after",)):
        one.put(message)
    came = list(other.feed(b"".join(iter(one.take, None))))
    assert [message[0] for message in came] == ["before", UNREADABLE, "after"]
    assert str(came[1][1]) == "no such version"
    assert other.heard == 3
