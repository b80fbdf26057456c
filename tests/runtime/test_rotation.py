"""Logs are rotated: no line is lost or told twice, whoever fails, is killed, or reads meanwhile."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

import kourou as lp
from kourou.runtime.files import rotation as rotations
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.files.growing_file import LINES_MISSING, GrowingFile
from kourou.runtime.files.log_file import NOBODY, LogFile, last_line
from kourou.runtime.files.log_writer import LogWriter
from kourou.runtime.files.rotation import Rotation, generations
from kourou.runtime.output.node_logs import NodeLogs, Terminal
from leaks import DESCRIPTORS

EACH_LINE = Rotation(max_bytes=1, backup_count=100)


class Killed(BaseException):
    """As kill -9: nothing is done after it."""


def log_in(folder: Path, rotation: Rotation) -> AppendFile:
    return AppendFile(folder / "0.log", errors="strict", rotation=rotation)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def lines_of(log: GrowingFile) -> list[str]:
    return b"".join(iter(log.read_lines, b"")).decode().splitlines()


def test_a_log_that_is_long_enough_is_renamed_and_the_oldest_is_gone(tmp_path: Path) -> None:
    # Given a log of another launcher of the same run, and room for two lines in each
    (tmp_path / "0.log").write_text("aaaa\n")
    log = log_in(tmp_path, Rotation(max_bytes=10, backup_count=2))
    descriptors = len(list(DESCRIPTORS.iterdir()))
    # When there are more, one of them longer than what a log holds
    for line in ("bbbb", "cccc", "d" * 50, "eeee", "ffff", "gggg"):
        assert log.append(line)
    # Then each has whole lines, as many as fit, and no descriptor is kept of those that were
    assert texts(tmp_path) == {"0.log.2": "d" * 50 + "\n", "0.log.1": "eeee\nffff\n", "0.log": "gggg\n"}
    assert len(list(DESCRIPTORS.iterdir())) == descriptors
    log.close()


@pytest.mark.parametrize("lines_between", [1, 2, 3, 7])
def test_who_follows_a_log_gets_each_line_once(tmp_path: Path, lines_between: int) -> None:
    # Given two who read a log now and then, while it is rotated up to three times
    log = log_in(tmp_path, Rotation(max_bytes=10, backup_count=4))
    by_line, whole = GrowingFile(tmp_path / "0.log"), GrowingFile(tmp_path / "0.log")
    told, copied = [], b""
    for number in range(1000, 1042):
        log.append(str(number))
        # When they do, then they get what was added
        if number % lines_between == 0:
            told += lines_of(by_line)
            copied += whole.read()
    told += lines_of(by_line)
    copied += whole.read()
    log.close()
    assert told == copied.decode().split() == [str(number) for number in range(1000, 1042)]


def test_who_follows_a_log_while_it_is_rotated_gets_each_line_once(tmp_path: Path) -> None:
    # Given a log that another thread fills as fast as it can, and that is rotated each five lines
    log = log_in(tmp_path, Rotation(max_bytes=25, backup_count=10_000))
    lines = [str(number) for number in range(1000, 1100)]
    writing = threading.Thread(target=lambda: [log.append(line) for line in lines], daemon=True)
    growing, told = GrowingFile(tmp_path / "0.log"), []
    # When it is followed meanwhile, then all lines come, in order
    writing.start()
    while writing.is_alive():
        told += lines_of(growing)
    told += lines_of(growing)
    log.close()
    assert told == lines


def test_a_log_that_is_rotated_while_its_backups_are_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one who has read all that there was
    log = log_in(tmp_path, EACH_LINE)
    growing = GrowingFile(tmp_path / "0.log")
    for line in ("0", "1"):
        log.append(line)
    told = lines_of(growing)
    log.append("2")
    # When the log is rotated twice while they look what has become of it
    backup, to_come = rotations.backup, ["3", "4"]

    def rotating(path: Path, number: int) -> Path:
        if number == 1:
            lines = [*to_come]
            to_come.clear()  # a rotation asks for these names as well
            for line in lines:
                log.append(line)
        return backup(path, number)

    monkeypatch.setattr(rotations, "backup", rotating)
    told += lines_of(growing)
    log.close()
    # Then no line is passed over
    assert told == ["0", "1", "2", "3", "4"]


def test_who_was_too_slow_goes_on_with_the_oldest_that_is_left_and_knows_it(tmp_path: Path) -> None:
    # Given one who has read the first line
    log = log_in(tmp_path, Rotation(max_bytes=1, backup_count=3))
    growing = GrowingFile(tmp_path / "0.log")
    log.append("0")
    assert lines_of(growing) == ["0"]
    # When more is rotated than is kept, the first one, too
    with (tmp_path / "0.log").open("rb"):  # so that its inode is not given to another one
        for number in range(1, 7):
            log.append(str(number))
        # Then what is left follows, and that something is missing before it is told, once
        assert lines_of(growing) == ["3", "4", "5", "6"]
    assert (growing.take_gap(), growing.take_gap()) == (True, False)
    # But not where all was read
    log.append("7")
    assert lines_of(growing) == ["7"]
    assert not growing.take_gap()
    log.close()


@pytest.mark.parametrize("later", ["bbbb\ncccc\n", "b\n"])
def test_a_new_log_with_the_inode_of_one_that_was_deleted_is_read_from_its_beginning(
    tmp_path: Path, later: str
) -> None:
    # Given one who has read the first line of a log
    (tmp_path / "0.log").write_text("aaaa\n")
    growing = GrowingFile(tmp_path / "0.log")
    assert lines_of(growing) == ["aaaa"]
    # When its inode is another log's, longer or shorter, with a backup in between
    (tmp_path / "0.log.1").write_text("between\n")
    (tmp_path / "0.log").write_text(later)
    # Then both are told from their beginning, after a gap
    assert lines_of(growing) == ["between", *later.split()]
    assert growing.take_gap()


def test_where_lines_are_missing_a_merged_log_says_so_whoever_is_asked_for(tmp_path: Path) -> None:
    # Given one who reads what a node prints
    log = AppendFile(tmp_path / "output.log", errors="strict", rotation=Rotation(max_bytes=1, backup_count=1))
    reader = LogFile(tmp_path / "output.log", lambda line: line.node == "a/0")
    log.append("t\ta/0\t0")
    assert [line.text for line in reader.read()] == ["0"]
    # When the log is rotated more often than backups are kept
    for number in range(1, 5):
        log.append(f"t\t{'ab'[number % 2]}/0\t{number}")
    log.close()
    # Then
    missing, line = reader.read()
    assert (missing.node, missing.text) == (NOBODY, LINES_MISSING)
    assert (line.node, line.text) == ("a/0", "4")


@pytest.mark.parametrize("count", range(9))
def test_the_last_lines_are_found_in_backups_as_well(tmp_path: Path, count: int) -> None:
    # Given seven lines, two in each log, of which every other one is wanted
    logs = NodeLogs(
        lambda name: tmp_path / name,
        Terminal(None),
        merged=tmp_path / "output.log",
        rotation=Rotation(max_bytes=80, backup_count=9),
    )
    for number in range(14):
        logs.line("ab"[number % 2] + "/0", str(number))
    assert len(generations(tmp_path / "output.log")) == 7
    log = LogFile(tmp_path / "output.log", lambda line: line.node == "b/0")
    # When it is read from the last ones on, then they come, and after them what is added
    log.skip_to_last(count)
    wanted = [str(number) for number in range(1, 14, 2)]
    assert [line.text for line in log.read()] == (wanted[-count:] if count else [])
    logs.line("b/0", "new")
    logs.close()
    assert [line.text for line in log.read()] == ["new"]


STEPS = ["0.log.3", "0.log.2", "0.log.1", "0.log"]
"""What comes to be while a log with two backups is rotated, the first three by renaming."""


def refuse(monkeypatch: pytest.MonkeyPatch, refused: str, error: BaseException) -> None:
    """Let one step of rotations raise the error instead."""
    rename, make = Path.replace, rotations.open_to_append

    def renaming(path: Path, target: Path) -> Path:
        if target.name == refused != "0.log":
            raise error
        return rename(path, target)

    def making(path: Path) -> int:
        if path.name == refused:
            raise error
        return make(path)

    monkeypatch.setattr(Path, "replace", renaming)
    monkeypatch.setattr(rotations, "open_to_append", making)


@pytest.mark.parametrize("step", STEPS)
def test_who_is_killed_while_it_rotates_leaves_a_log_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # Given a log with two backups, and somebody who follows it
    log = log_in(tmp_path, EACH_LINE)
    growing = GrowingFile(tmp_path / "0.log")
    for line in ("0", "1", "2"):
        log.append(line)
    told = lines_of(growing)
    # When its launcher is killed before one of the steps of a rotation
    with monkeypatch.context() as patch:
        refuse(patch, step, Killed())
        with pytest.raises(Killed):
            log.append("lost")
    log.close()
    # Then all is there
    assert lines_of(growing) == []
    assert lines_of(GrowingFile(tmp_path / "0.log")) == ["0", "1", "2"]
    assert last_line(tmp_path / "0.log") == "2"
    # And another launcher goes on, whose first rotation closes the gap
    log = log_in(tmp_path, EACH_LINE)
    for line in ("3", "4"):
        log.append(line)
    log.close()
    assert told + lines_of(growing) == ["0", "1", "2", "3", "4"]
    assert lines_of(GrowingFile(tmp_path / "0.log")) == ["0", "1", "2", "3", "4"]
    names = sorted(texts(tmp_path))
    assert names == ["0.log", *(f"0.log.{number}" for number in range(1, len(names)))]


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_that_fails_loses_nothing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    # Given a node's log with two backups, somebody who follows it, and a system that refuses a step of its rotation
    (tmp_path / "0.log.2").write_text("0\n")
    (tmp_path / "0.log.1").write_text("1\n")
    logs = NodeLogs(
        lambda _: tmp_path / "0.log",
        Terminal(None),
        merged=tmp_path / "all" / "output.log",
        rotation=Rotation(max_bytes=4, backup_count=9),
    )
    growing, told = GrowingFile(tmp_path / "0.log"), []
    with monkeypatch.context() as patch:
        logs.line("a/0", "2")
        refuse(patch, step, OSError(errno.EMFILE, "too many files"))
        # When it prints more than it may hold
        for line in "34567":
            logs.line("a/0", line)
            told += lines_of(growing)
    # Then the log grows, and that is told once
    (record,) = (each for each in caplog.records if "cannot rotate" in each.getMessage())
    assert str(tmp_path / "0.log") in record.getMessage()
    assert (tmp_path / "0.log").read_text().split() == list("234567")
    assert told == lines_of(GrowingFile(tmp_path / "0.log")) == list("01234567")
    # And when it can be rotated, it is
    for line in "89":
        logs.line("a/0", line)
    logs.close()
    assert told + lines_of(growing) == lines_of(GrowingFile(tmp_path / "0.log")) == list("0123456789")
    assert (tmp_path / "0.log").read_text().split() == list("89")


def test_what_a_finaliser_prints_while_a_log_is_rotated_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a log that is full, and something that the garbage collector finds while it is rotated, which prints as well
    log = log_in(tmp_path, EACH_LINE)
    log.append("0")
    make = rotations.open_to_append

    def making(path: Path) -> int:
        log.append("freed")
        return make(path)

    monkeypatch.setattr(rotations, "open_to_append", making)
    # When, then
    log.append("1")
    log.close()
    assert texts(tmp_path) == {"0.log.1": "0\nfreed\n", "0.log": "1\n"}


def test_logs_that_cannot_be_written_are_told_once_and_others_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two logs that cannot be opened, and one that can
    for name in "ab":
        (tmp_path / name).mkdir()
    logs = LogWriter(EACH_LINE)
    # When lines go to all of them
    for name in "abcabc":
        logs.append(str(tmp_path / name), name)
        logs.tell_troubles()
    logs.close()
    logs.append(str(tmp_path / "c"), "too late")
    # Then
    (record,) = caplog.records
    assert f"cannot write {tmp_path / 'a'}: " in record.getMessage()
    assert lines_of(GrowingFile(tmp_path / "c")) == ["c", "c"]


def test_of_logs_that_cannot_all_be_opened_none_is(tmp_path: Path) -> None:
    # Given one that cannot be
    (tmp_path / "c").mkdir()
    logs, before = LogWriter(EACH_LINE), len(list(DESCRIPTORS.iterdir()))
    # When, then
    with pytest.raises(IsADirectoryError):
        logs.open(*(tmp_path / name for name in "abcd"))
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize("variable", ["KOUROU_LOG_MAX_BYTES", "KOUROU_LOG_BACKUP_COUNT"])
@pytest.mark.parametrize("value", ["0", "-1", "512MiB", "1.5", "∞" * 5_000])
def test_a_size_that_is_none_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, runs_dir: Path, variable: str, value: str
) -> None:
    # Given
    monkeypatch.setenv(variable, value)
    program = lp.Program("logs")
    program.add_node(lp.PyNode(print), label="node")
    # When, then
    with pytest.raises(lp.errors.PlanError, match=rf"{variable}='{value[:90]}.*: give a whole number from 1 on"):
        lp.launch(program, "local_mt")
    assert not list(runs_dir.glob("*"))


def test_the_logs_of_a_run_are_as_long_as_the_environment_says(monkeypatch: pytest.MonkeyPatch, runs_dir: Path) -> None:
    # Given a node that prints more
    monkeypatch.setenv("KOUROU_LOG_MAX_BYTES", "4096")
    monkeypatch.setenv("KOUROU_LOG_BACKUP_COUNT", "2")
    program = lp.Program("logs")
    program.add_node(lp.PyNode(lambda: print(*range(5_000), sep="\n")), label="node")
    # When it has ended
    run = lp.launch(program, "local_mt", terminal="output_to_files")
    run.wait()
    # Then its log and that of all nodes have their backups, and the last lines in order
    for path in (run.folder / "logs" / "node" / "0.log", run.folder / "output.log"):
        sizes = [each.stat().st_size for each in generations(path).values()]
        assert len(sizes) == 3
        assert max(sizes) <= 4096
        kept = [int(line.split()[-1]) for line in lines_of(GrowingFile(path))]
        assert kept == list(range(kept[0], 5_000))
