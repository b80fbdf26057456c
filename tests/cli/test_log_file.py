"""Reading the merged log from its end, and as it grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cli.folders import failed_run
from fuzzing import examples
from kourou.cli.sweep.status_and_logs import _Log
from kourou.runtime.files import log_file
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.files.growing_file import LINES_MISSING, GrowingFile
from kourou.runtime.files.log_file import LogFile, last_line
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.files.run_folder import node_log
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.output.node_logs import NodeLogs, Terminal
from kourou.runtime.output.tmux_window import NodeFollower


def logs_of(folder: Path) -> NodeLogs:
    return NodeLogs(lambda name: folder / f"{name}.log", Terminal(None), merged=folder / "output.log")


@pytest.mark.parametrize("name", ["actor/0", "a\tb\nc/1", "ü %09/2", "#[x]/3"])
def test_a_line_comes_back_with_its_node_and_its_tabs(tmp_path, name):
    logs = logs_of(tmp_path)
    logs.line(name.replace("/", "-"), "one\ttwo \x85 three")
    logs.close()

    (line,) = LogFile(tmp_path / "output.log").read()

    assert (line.node, line.text) == (name.replace("/", "-"), "one\ttwo \x85 three")


def test_only_what_was_added_is_read_again(tmp_path):
    path = tmp_path / "output.log"
    log = LogFile(path)
    assert list(log.read()) == []

    path.write_text("t\ta/0\tfirst\nt\ta/0\tunfin")
    first = [line.text for line in log.read()]
    with path.open("a") as file:
        file.write("ished\nt\tb/0\tlast\n")
    second = [line.text for line in log.read()]

    assert (first, second) == (["first"], ["unfinished", "last"])


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(st.sampled_from(["a/0", "b/0"]), st.text("xyü", max_size=12)), max_size=30),
    count=st.integers(0, 32),
    block=st.integers(1, 64),
)
def test_the_last_lines_are_the_last_lines(tmp_path, monkeypatch, lines, count, block):
    monkeypatch.setattr(log_file, "_BLOCK_BYTES", block)
    path = tmp_path / "output.log"
    path.write_text("".join(f"t\t{node}\t{text}\n" for node, text in lines), encoding="utf-8")
    log = LogFile(path, lambda line: line.node == "a/0")

    log.skip_to_last(count)

    expected = [text for node, text in lines if node == "a/0"]
    assert [line.text for line in log.read()] == (expected[-count:] if count else [])


@pytest.mark.parametrize(("text", "last"), [("", ""), ("a\nb\n\n  \n", "b"), ("x" * 20_000, "x" * (1 << 14))])
def test_the_last_line_of_a_node(tmp_path, text, last):
    (tmp_path / "log").write_text(text)

    assert last_line(tmp_path / "log") == last
    assert last_line(tmp_path / "none") == ""


def follow_run_of_sweep(found: FoundRun) -> Callable[[], None]:
    return _Log(GrowingFile(node_log(found.path, "actor/0")), prefix="").print_new


def follow_in_tmux(found: FoundRun) -> Callable[[], None]:
    return NodeFollower(found.path, "actor/0").step


@pytest.mark.parametrize("follow", [follow_run_of_sweep, follow_in_tmux])
def test_who_follows_one_log_is_told_where_lines_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], follow: Callable[[FoundRun], Callable[[], None]]
) -> None:
    # Given one who has seen all that a log says
    found = failed_run(tmp_path / "run", text="before")
    show = follow(found)
    show()
    assert "before of 1\n" in capsys.readouterr().out
    # When it is rotated more often than backups are kept
    log = AppendFile(node_log(found.path, "actor/0"), errors="strict", rotation=Rotation(max_bytes=1, backup_count=1))
    for number in range(4):
        log.append(str(number))
    log.close()
    show()
    # Then that is said before what is left
    missing, *last = capsys.readouterr().out.splitlines()
    assert (LINES_MISSING in missing, last) == (True, ["2", "3"])
