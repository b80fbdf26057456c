"""Values of the user's in messages."""

from __future__ import annotations

from typing import Any, cast

import pytest

import kourou as lp
from kourou.shown import shown


class _Unshowable:
    def __init__(self, *args):
        pass

    def __repr__(self):
        raise TypeError("no words")

    def __reduce__(self):
        raise TypeError("cannot travel")


def test_a_value_is_shown_in_one_line_whatever_its_class_does():
    assert shown({"a": 1}) == "{'a': 1}"
    assert shown(Unshowable()) == "<_Unshowable, whose __repr__ raises>"
    assert shown([Unshowable()]) == "<list, whose __repr__ raises>"
    assert len(shown("x" * 10**6)) == 120


Unshowable = cast("Any", _Unshowable)

MISTAKES: dict[str, Any] = {
    "argument": lambda program: program.add_node(lp.PyNode(print, Unshowable()), label="node"),
    "key": lambda program: program.add_node(lp.PyNode(print, {Unshowable(): Unshowable()}), label="node"),
    "node": lambda program: program.add_node(Unshowable(), label="node"),
    "function": lambda program: lp.PyNode(Unshowable()),
    "child": lambda program: lp.MultiThreadingColocation([Unshowable()]),
    "policy": lambda program: program.group("node", on_failure=Unshowable()).__enter__(),
    "resources": lambda program: lp.PythonProcess(args=Unshowable()),
    "timeline": lambda program: lp.StopTimeline(ask_s=Unshowable()),
    "terminal": lambda program: lp.compile_program(program, "local_mt", terminal=Unshowable()),
    "launch-type": lambda program: lp.compile_program(program, Unshowable()),
    "broadcast": lambda program: lp.broadcast([Unshowable()]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_though_what_it_is_about_cannot_be_shown(mistake):
    program = lp.Program("unshowable")
    program.add_node(lp.PyNode(print), label="other")

    def make():
        MISTAKES[mistake](program)
        lp.compile_program(program, "local_mp")

    with pytest.raises((lp.errors.KourouError, TypeError), match="whose __repr__ raises"):
        make()
