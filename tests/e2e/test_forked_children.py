"""Children that a node forks, as PyTorch's data loaders do, call other nodes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import kourou as lp
from kourou.runtime.files.append_file import AppendFile
from optional import pytest
from polling import WAIT_S, until

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


def test_what_they_print_is_logged_though_another_thread_was_printing(
    monkeypatch: pytest.MonkeyPatch, runs_dir: Path
) -> None:
    # Given a node in the middle of a print
    printing, forked, append = threading.Event(), threading.Event(), AppendFile.append

    def append_slowly(file: AppendFile, line: str) -> bool:
        if line == "slow":
            printing.set()
            assert forked.wait(WAIT_S)
        return append(file, line)

    monkeypatch.setattr(AppendFile, "append", append_slowly)

    # When another one forks, and its child prints
    def fork() -> None:
        assert printing.wait(WAIT_S)
        child = os.fork()
        if child == 0:
            print("child")
            os._exit(0)
        try:
            until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), 20.0)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            forked.set()

    program = lp.Program("forks")
    program.add_node(lp.PyNode(print, "slow"), label="slow")
    program.add_node(lp.PyNode(fork), label="forker")
    lp.launch(program, "local_mt", terminal="output_to_files").wait()
    # Then both are logged
    assert [log.read_text("utf-8") for log in sorted(runs_dir.glob("*/logs/*/0.log"))] == ["child\n", "slow\n"]
