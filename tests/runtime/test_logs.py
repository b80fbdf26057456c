"""Nodes' lines on the terminal and in files."""

from __future__ import annotations

import faulthandler
import io
import sys
import threading
from collections import deque

import kourou as lp
from kourou.runtime.files.log_file import last_line
from kourou.runtime.files.nonblocking_stream import NonBlockingStream
from kourou.runtime.interpreter.stacks import STACK_LINE
from kourou.runtime.output.node_logs import NodeLogs, Terminal
from leaks import DESCRIPTORS
from optional import pytest


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def _logs(folder, terminal):
    return NodeLogs(lambda name: folder / f"{name.replace('/', '-')}.log", terminal, merged=folder / "output.log")


def test_a_line_goes_to_the_node_s_log_to_the_merged_one_and_to_the_terminal(tmp_path):
    stream = io.StringIO()
    logs = _logs(tmp_path, Terminal(stream))
    logs.line("a b/0", "hello")
    logs.line("a\nb\t/1", "Köln \udcff")
    logs.close()
    assert stream.getvalue().startswith("[a b/0] hello\n")
    assert (tmp_path / "a b-0.log").read_text(encoding="utf-8") == "hello\n"
    merged = (tmp_path / "output.log").read_bytes().split(b"\n")
    assert len(merged) == 3  # two lines, whatever the labels hold
    assert merged[0].endswith(b"\ta b/0\thello")


def test_colours_belong_to_labels_and_to_terminals(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = FakeTerminal()
    terminal = Terminal(coloured)
    for name in ("a/0", "b/0", "a/1"):
        terminal.line(name, "x")
    first, second, third = (line.split("[")[1].split("m")[0] for line in coloured.getvalue().splitlines())
    assert first == third != second
    monkeypatch.setenv("NO_COLOR", "1")
    plain = FakeTerminal()
    Terminal(plain).line("a/0", "x")
    assert plain.getvalue() == "[a/0] x\n"


def test_a_terminal_that_is_closed_cannot_hold_a_character_or_is_missing_does_no_harm():
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Terminal(ascii_only).line("a/0", "Köln")
    assert ascii_only.buffer.getvalue() == b"[a/0] K\\xf6ln\n"
    closed = io.StringIO()
    closed.close()
    Terminal(closed).line("a/0", "x")
    Terminal(None).line("a/0", "x")
    Terminal(sys.stdout, enabled=False).line("a/0", "x")


def test_a_log_that_cannot_be_written_loses_lines_not_nodes(tmp_path):
    (tmp_path / "blocked").touch()
    stream = io.StringIO()
    logs = NodeLogs(lambda name: tmp_path / "blocked" / "log", Terminal(stream), merged=tmp_path / "blocked" / "all")
    logs.line("a/0", "hello")
    logs.close()
    assert stream.getvalue() == "[a/0] hello\n"


def test_a_node_that_is_gone_keeps_no_log_open_and_may_say_more(tmp_path):
    # given
    logs = _logs(tmp_path, Terminal(None))
    before = len(list(DESCRIPTORS.iterdir()))
    for node in ("a/0", "a/1"):
        logs.line(node, "hello")
    # when
    logs.forget(["a/0", "b/0"])
    # then
    assert len(list(DESCRIPTORS.iterdir())) == before + 2
    logs.line("a/0", "late")
    assert (tmp_path / "a-0.log").read_text() == "hello\nlate\n"
    logs.close()


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_standard_streams_are_back_in_whichever_order_two_programs_end(first_to_end):
    # Given two programs of threads.
    before = sys.stdout, sys.stderr
    runs = []
    for name in ("one", "two"):
        program = lp.Program(name)
        program.add_node(lp.PyNode(lp.wait_for_stop), label="node")
        runs.append(lp.launch(program, "local_mt"))
    assert sys.stdout is not before[0]
    # When they end.
    runs[first_to_end].stop()
    runs[1 - first_to_end].stop()
    # Then standard output and error are what they were.
    assert (sys.stdout, sys.stderr) == before


def test_a_thread_that_prints_no_newline_costs_no_memory(runs_dir):
    # Given a node that draws a progress bar for hours.
    def draw():
        for _ in range(40):
            print(end="\r" + "x" * 9_999)
        print("end")

    program = lp.Program("bar")
    program.add_node(lp.PyNode(draw), label="node")
    lp.launch(program, "local_mt", terminal="output_to_files").wait()
    # Then of all drawings only the last one was kept for the line that ends it.
    (log,) = runs_dir.glob("*/logs/node/0.log")
    *_, last = log.read_text(encoding="utf-8").splitlines()
    assert last.endswith("x" * 9_999 + "end")
    assert last.count("x") == 9_999


def test_stacks_are_nobodys_last_line(tmp_path):
    # Given a node that printed a line, and was asked for its stacks since
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        print("  step 7", file=file, flush=True)
        faulthandler.dump_traceback(file, all_threads=True)
    # Then what it printed is what it said last
    assert last_line(log).startswith("File ")
    assert last_line(log, passing_over=STACK_LINE) == "step 7"


@pytest.mark.parametrize("where", ["files", "terminal", "stream"])
def test_what_a_finaliser_prints_in_the_middle_of_a_print_is_a_line_of_its_own(where, tmp_path, monkeypatch):
    # given a node that prints, and something that the garbage collector finds just then, which prints as well
    written = tmp_path / "terminal"
    with written.open("w") as file:
        stream = NonBlockingStream(file)
        terminal = Terminal(stream)
        logs = _logs(tmp_path, terminal)
        found = [Loud(logs)]

        def collect(method):
            def collecting(*args):
                found.clear()
                return method(*args)

            return collecting

        if where == "files":
            monkeypatch.setattr(logs, "_now", collect(logs._now))
        elif where == "terminal":
            monkeypatch.setattr(stream, "write", collect(stream.write))
        else:
            monkeypatch.setattr(stream, "_backlog", Collecting(found))
        # when it prints
        printing = threading.Thread(target=logs.line, args=("a/0", "hello"), daemon=True)
        printing.start()
        printing.join(20)
        # then both lines are there
        assert not printing.is_alive()
        stream.close()
        logs.close()
    for text in (written.read_text(), (tmp_path / "output.log").read_text()):
        assert sorted(line.split()[-1] for line in text.splitlines()) == ["freed", "hello"]


class Loud:
    def __init__(self, logs):
        self._logs = logs

    def __del__(self):
        self._logs.line("a/0", "freed")


class Collecting(deque):
    def __init__(self, found):
        super().__init__()
        self._found = found

    def append(self, text):
        self._found.clear()
        super().append(text)
