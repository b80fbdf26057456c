"""Children that a node forks, as PyTorch's data loaders do: they call other nodes, or are told why they cannot."""

from __future__ import annotations

import os

import pytest

import kourou as lp
from kourou.errors import UsedAfterFork

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
        try:
            unknown.say("child")
        except UsedAfterFork as error:
            known.say("told" if "once before the fork" in str(error) else str(error))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    known.say("parent again")


def test_children_reach_the_nodes_that_their_parent_has_called():
    # Given a node that has called one of two others
    program = lp.Program("forks")
    known = program.add_node(lp.CourierNode(Server), label="known")
    unknown = program.add_node(lp.CourierNode(Server), label="unknown")
    program.add_node(lp.PyNode(forker, known, unknown), label="forker")
    # When it forks, and its child calls both
    with lp.launch(program, "local_mp") as run:
        run.wait(["forker"], timeout_s=60)
        # Then it reaches the one, and is told what to do about the other, which took gRPC to find
        assert known.dereference().say("test") == ["parent", "child", "told", "parent again", "test"]
