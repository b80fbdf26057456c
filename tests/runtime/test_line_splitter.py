"""Lines out of pieces, and progress bars that end none for hours."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kourou.runtime.files.append_file import LONGEST_LINE
from kourou.runtime.output.line_splitter import LineSplitter


class Told:
    """What a splitter tells, and the clock that it looks at."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.drawings: list[str] = []
        self.now = 100.0
        self.splitter = LineSplitter(self._tell, lambda: self.now)

    def _tell(self, text: str, is_line: bool) -> None:
        (self.lines if is_line else self.drawings).append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@given(st.lists(st.text(alphabet="ab\r\n", max_size=5), max_size=8))
def test_pieces_give_the_lines_of_the_whole(pieces: list[str]) -> None:
    told = Told()
    for piece in pieces:
        told.splitter.feed(piece.encode())
    told.splitter.finish()
    *whole, rest = "".join(pieces).split("\n")
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in whole + ([rest] if rest.strip("\r") else [])]
    assert [line for line in told.lines if line] == [line for line in lines if line]
    assert told.drawings == []


def test_a_bar_is_told_now_and_then_and_its_end_as_a_line(told: Told) -> None:
    # Given a bar that is drawn ten times a second for a minute
    for eighth in range(480):
        told.splitter.feed(f"\r{eighth}".encode())
        told.now += 0.125
    # Then it is told after 1, 2, 4, 8 s and then every 10 s
    assert [int(drawing) / 8 for drawing in told.drawings] == [1, 3, 7, 15, 25, 35, 45, 55]
    # And a newline makes its last drawing a line
    told.splitter.feed(b"\r480\nnext\n")
    assert told.lines == ["480", "next"]


def test_a_bar_of_another_kind_draws_before_the_return_and_is_not_told_twice(told: Told) -> None:
    for number in range(4):
        told.now += 1.1
        told.splitter.feed(f"{min(number, 1)}\r".encode())
    told.splitter.feed(b"\n")
    assert (told.drawings, told.lines) == (["1"], [])


def test_what_no_newline_ends_is_bounded(told: Told) -> None:
    for _ in range(3):
        told.splitter.feed(b"x" * LONGEST_LINE)
    assert [len(line) for line in told.lines] == [LONGEST_LINE] * 2
    told.splitter.feed(b"\r" + b"y" * 10)
    told.splitter.finish()
    assert told.lines[2:] == ["x" * LONGEST_LINE, "y" * 10]


def test_bars_below_each_other_are_told_together_now_and_then(told: Told) -> None:
    # Given what rich prints for three bars that are drawn anew ten times a second
    up = b"\r\x1b[2K" + b"\x1b[1A\x1b[2K" * 2
    told.splitter.feed(b"before\n\x1b[?25la 0\nb 0\nc 0")
    for tenth in range(1, 101):
        told.now += 0.1
        told.splitter.feed(up + f"a {tenth}\nb {tenth}\nc {tenth}".encode())
    # Then they are told as seldom as one, all three at the same moment, without moves of the cursor
    assert told.lines == ["before", "a 0", "b 0"]
    moments = [drawing.split()[1] for drawing in told.drawings[::3]]
    assert told.drawings == [f"{bar} {moment}" for moment in moments for bar in "abc"]
    assert 2 <= len(moments) <= 4
    # And as they stand at the end, once something else is printed
    told.splitter.feed(b"\n\x1b[?25h\nafter\n")
    assert told.lines[3:] == ["a 100", "b 100", "c 100", "after"]
