"""What workers print: files, the launcher's loggers, handlers and callbacks of the user's."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import kourou as lp
from kourou.runtime.files.rotation import generations
from kourou.runtime.monitoring.run_search import find_runs
from kourou.spmd import Launcher, Line, default_handlers, only_from
from kourou.spmd.hosts.places import Host
from kourou.spmd.launch.log_handlers import LogFolder, log_level
from kourou.spmd.worker.lines import parse
from optional import pytest
from spmd import functions

STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:([A-Z]+): (.*)")


def test_every_worker_and_agent_has_a_file(gloo2: Launcher, log_dir: Path) -> None:
    gloo2.set_logging_handlers("auto").run(functions.talk, 3)
    (folder,) = log_dir.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["localhost.log", "localhost[0].log", "localhost[1].log"]
    text = (folder / "localhost[1].log").read_text(encoding="utf-8")
    found = STAMPED.findall(text)
    assert [line for line in found if line != ("ERROR", "to stderr")] == [
        ("INFO", "line 0"),
        ("INFO", "line 1"),
        ("INFO", "line 2"),
        ("WARNING", "a record"),
        ("INFO", "the end, without a newline"),
    ]
    assert ("ERROR", "to stderr") in found
    assert "of two lines" in text
    assert "not shown" not in text
    assert "rank 1 (localhost[1]) returned" in (folder / "localhost.log").read_text(encoding="utf-8")


def test_what_ranks_say_is_rotated_as_the_environment_says(
    gloo2: Launcher, log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given ranks that say much
    monkeypatch.setenv("KOUROU_LOG_MAX_BYTES", "1000")
    monkeypatch.setenv("KOUROU_LOG_BACKUP_COUNT", "2")
    # When
    gloo2.set_logging_handlers("auto").run(functions.talk, 200)
    # Then each one's last lines are kept
    (folder,) = log_dir.iterdir()
    for rank in range(2):
        logs = generations(folder / f"localhost[{rank}].log")
        assert len(logs) == 3
        said = [line for log in reversed(logs.values()) for line in STAMPED.findall(log.read_text())]
        lines = [text for _, text in said if text.startswith("line ")]
        assert lines == [f"line {number}" for number in range(200 - len(lines), 200)]
        assert ("INFO", "the end, without a newline") in said


def test_a_size_of_logs_that_is_none_is_refused_before_ranks_start(
    gloo2: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOUROU_LOG_BACKUP_COUNT", "0")
    with pytest.raises(lp.errors.PlanError, match="KOUROU_LOG_BACKUP_COUNT='0': give a whole number"):
        gloo2.set_logging_handlers("auto").run(functions.rank)


def test_logs_that_cannot_be_made_are_told_with_what_to_do(
    gloo2: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a place for logs that is no folder
    (tmp_path / "file").touch()
    monkeypatch.setenv("KOUROU_LOG_DIR", str(tmp_path / "file"))
    # When, then
    with pytest.raises(
        lp.errors.LaunchError, match=r"cannot make logs of ranks in .*/file: .*; KOUROU_LOG_DIR chooses"
    ):
        gloo2.set_logging_handlers("auto").run(functions.rank)


def test_the_first_worker_speaks_through_the_launchers_loggers(
    gloo2: Launcher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOUROU_LOG_DIR", "")
    with caplog.at_level(logging.INFO):
        gloo2.set_logging_handlers("auto").run(functions.talk, 1)
    names = {record.name for record in caplog.records}
    assert names == {"kourou.spmd.localhost", "kourou.spmd.localhost.0"}
    assert {(r.hostname, r.local_rank) for r in caplog.records} == {  # type: ignore[attr-defined]
        ("localhost", None),
        ("localhost", 0),
    }


def test_where_logging_is_not_set_up_the_first_worker_prints(
    gloo2: Launcher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given logging as it is before anybody sets it up, and as it is when a level is all that was said
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    for level, printed in ((logging.NOTSET, True), (logging.ERROR, False)):
        monkeypatch.setattr(logging.getLogger("kourou.spmd"), "level", level)
        logging.root.manager._clear_cache()  # type: ignore[attr-defined]  # of levels
        # When ranks print
        gloo2.set_logging_handlers("auto").run(functions.talk, 2)
        # Then rank 0's lines, and they alone, are printed as long as nobody has set up anything
        out, err = capsys.readouterr()
        lines = ["[rank 0] line 0", "[rank 0] line 1", "[rank 0] the end, without a newline"]
        assert out.splitlines() == (lines if printed else [])
        assert ("[rank 0] to stderr" in err.splitlines()) == printed
        assert "rank 1" not in err


def test_handlers_of_the_users_get_records_that_say_who_spoke(gloo2: Launcher, log_dir: Path) -> None:
    # Given
    records: list[logging.LogRecord] = []
    closed: list[bool] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

        def close(self) -> None:
            closed.append(True)
            super().close()

    def factory() -> list[logging.Handler]:
        handler = Keeper(logging.WARNING)
        handler.addFilter(only_from("localhost", 1))
        return [handler]

    # When
    gloo2.set_logging_handlers(factory).run(functions.talk, 1)
    # Then
    assert {(r.levelname, r.getMessage()) for r in records} == {
        ("WARNING", "a record\nof two lines"),
        ("ERROR", "to stderr"),
    }
    assert {r.local_rank for r in records} == {1}  # type: ignore[attr-defined]
    assert closed == [True]
    assert not log_dir.exists()


def test_a_callback_gets_every_line_in_order(gloo2: Launcher) -> None:
    lines: list[Line] = []
    gloo2.set_on_output(lines.append).run(functions.talk, 100)
    for rank in range(2):
        own = [line.text for line in lines if line.rank == rank and line.stream == "stdout"]
        assert own == [*(f"line {number}" for number in range(100)), "the end, without a newline"]
    assert {line.logger for line in lines if line.text.startswith("a record")} == {"my.logger"}


def test_a_callback_that_raises_is_told_once_and_ends_nothing(
    gloo2: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(line: Line) -> None:
        raise ArithmeticError("of the callback")

    assert gloo2.set_on_output(fail).run(functions.rank).results == {"localhost": [0, 1]}
    assert capsys.readouterr().err.count("ArithmeticError: of the callback") == 1


def test_a_handler_that_raises_is_told_once_and_costs_no_result(
    gloo2: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a handler that is broken, down to its end, and one that is not
    closed: list[bool] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ArithmeticError("of the handler")

        def close(self) -> None:
            super().close()
            raise OSError("no room for the rest")

    class Whole(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None: ...

        def close(self) -> None:
            super().close()
            closed.append(True)

    # When
    result = gloo2.set_logging_handlers(lambda: [Broken(), Whole()]).run(functions.rank)
    # Then
    assert result.results == {"localhost": [0, 1]}
    told = capsys.readouterr().err
    assert (told.count("ArithmeticError: of the handler"), told.count("OSError: no room")) == (1, 1)
    assert closed == [True]


@pytest.mark.parametrize(("text", "level"), [("debug", 10), ("WARNING", 30), (" 15 ", 15)])
def test_the_level_is_a_name_or_a_number(monkeypatch: pytest.MonkeyPatch, text: str, level: int) -> None:
    monkeypatch.setenv("KOUROU_LOG_LEVEL", text)
    assert log_level() == level


def test_a_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUROU_LOG_LEVEL", "loud")
    with pytest.raises(ValueError, match="loud"):
        log_level()


def test_nothing_is_left_in_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KOUROU_LOG_DIR")
    monkeypatch.setenv("KOUROU_RUNS_DIR", str(tmp_path / "runs"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for handler in default_handlers([Host(name="a", workers=1, local=True)]):
        handler.close()
    assert list((tmp_path / "here").iterdir()) == []
    [folder] = (tmp_path / "runs" / "ranks").iterdir()
    assert {path.name for path in folder.iterdir()} == {"a.log", "a[0].log"}
    assert find_runs(tmp_path / "runs") == []


def test_the_names_of_torchrunx_are_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KOUROU_LOG_DIR")
    monkeypatch.setenv("TORCHRUNX_LOG_DIR", str(tmp_path / "theirs"))
    handlers = default_handlers([Host(name="a", workers=1, local=True)])
    for handler in handlers:
        handler.close()
    assert len(list((tmp_path / "theirs").iterdir())) == 1


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb", "ü", "::1", "a%2Fb"])
def test_hosts_of_hostile_names_have_files_of_their_own(tmp_path: Path, name: str) -> None:
    folder = LogFolder(tmp_path, [], logging.INFO)
    path = folder.file_of(name, 0)
    assert path.parent == tmp_path
    folder.close()


@pytest.mark.parametrize("text", ["\x1e", "\x1e[1]", "\x1enull", '\x1e["x", "y", "z"]', "\x1e{", "plain", ""])
def test_a_line_that_only_looks_like_a_record_is_a_line(text: str) -> None:
    line = parse(text, "stdout", hostname="h", rank=0, local_rank=0)
    assert (line.text, line.stream, line.level) == (text, "stdout", logging.INFO)
