"""Children that a node forks, as PyTorch's data loaders do, call other nodes."""

from __future__ import annotations

import os

import kourou as lp
from optional import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")


class Server:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, word: str) -> list[str]:
        self.said.append(word)
        return self.said


def forker(known: Server, unknown: Server) -> None:
    known.say("parent")
    child = os.fork()
    if child == 0:
        known.say("child")
        unknown.say("child")  # its parent is asked where that is
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    known.say("parent again")


@pytest.mark.parametrize("kind", ["local_mp", "local_mt"])
def test_children_reach_all_nodes(kind):
    # Given a node that has called one of two others
    program = lp.Program("forks")
    known = program.add_node(lp.CourierNode(Server), label="known")
    unknown = program.add_node(lp.CourierNode(Server), label="unknown")
    program.add_node(lp.PyNode(forker, known, unknown), label="forker")
    # When it forks, and its child calls both
    with lp.launch(program, kind) as run:
        run.wait(["forker"], timeout_s=60)
        # Then it reaches both
        assert known.dereference().say("test") == ["parent", "child", "parent again", "test"]
        assert unknown.dereference().say("test") == ["child", "test"]
