"""A folder that others could have written tells of no run: whom it says to call would be theirs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kourou as lp
from cli import programs
from cli.commands import kourou
from kourou.runtime.monitoring.run_search import choose_run, find_runs
from strangers import NOBODY, give_away, needs_root

pytestmark = pytest.mark.usefixtures("no_leaks")

COMMANDS = (
    ("status",),
    ("logs",),
    ("stop",),
    ("call", "speaker/0", "say"),
    ("debug", "speaker"),
)


@pytest.fixture
def folder() -> Path:
    """Of a run that has ended."""
    run = lp.launch(programs.make_short(), "test_mt")
    run.wait()
    return run.folder


def _open_to_all(path: Path) -> None:
    path.chmod(0o777)


LEFT_TO_OTHERS = [
    pytest.param(give_away, "belongs to user", id="of-another-user", marks=needs_root),
    pytest.param(_open_to_all, "others can write to", id="open-to-all"),
]


@pytest.mark.parametrize(("leave", "reason"), LEFT_TO_OTHERS)
def test_no_command_looks_into_a_folder_that_others_could_have_written(
    folder: Path, leave: Callable[[Path], None], reason: str
):
    # Given
    leave(folder)
    # When it is meant by its name, Then the reason is told
    for command, *words in COMMANDS:
        outcome = kourou(command, folder.name, *words)
        assert (outcome.code, outcome.out) == (1, ""), command
        assert reason in outcome.err, command
    # And it is not the newest run, nor one to list or delete
    assert "there are no runs" in kourou("call", "-", "speaker/0", "say").err
    assert kourou("ps", "--all", "--json").json == []
    assert "no runs" in kourou("clean", "--older-than", "0").out
    assert folder.exists()


@needs_root
@pytest.mark.parametrize("name", ["run.json", "status.json", "plan.json", "events.jsonl"])
def test_a_file_that_somebody_else_left_in_the_folder_counts_as_missing(folder: Path, name: str):
    before = kourou("ps", "--all", "--json").json
    give_away(folder / name)
    runs = kourou("ps", "--all", "--json").json
    assert runs == [] if name == "run.json" else [run["run"] for run in runs] == [run["run"] for run in before]
    assert name != "status.json" or runs[0]["state"] == "dead"


@needs_root
def test_a_token_of_somebody_else_is_shown_to_nobody(folder: Path):
    (folder / "token").write_text("theirs")
    give_away(folder / "token")
    (found,) = find_runs()
    with pytest.raises(lp.errors.NotOwned, match="token belongs to user"):
        _ = found.token


@needs_root
def test_runs_of_ours_beside_those_of_others_are_found(folder: Path):
    other = folder.with_name("planted")
    other.mkdir()
    (other / "run.json").write_text((folder / "run.json").read_text().replace(folder.name, "planted"))
    give_away(other, other / "run.json")
    folder.parent.chmod(0o1777)  # as a folder for all users of a cluster is
    assert [run["run"] for run in kourou("ps", "--all", "--json").json] == [folder.name]


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@needs_root
def test_folders_that_may_not_be_entered_are_those_of_others(folder: Path):
    # Given a folder for all users of a cluster, with a run of one of them
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        Path(shared).chmod(0o1777)
        theirs = shutil.copytree(folder, Path(shared, folder.name))
        os.chown(theirs, NOBODY - 1, NOBODY - 1)
        # When another user looks
        with _as_nobody():
            # Then there is none of theirs, and its name is told to be another's
            assert find_runs(shared) == []
            with pytest.raises(lp.errors.NotFound, match="there are no runs"):
                choose_run("-", shared)
            with pytest.raises(lp.errors.NotOwned, match="belongs to user"):
                choose_run(folder.name, shared)
        os.chown(theirs, 0, 0)
        assert [run.run_id for run in find_runs(shared)] == [folder.name]


@needs_root
def test_a_place_for_runs_that_may_not_be_entered_is_named(tmp_path: Path):
    kourou("ps")  # so that all is imported that another user could not read
    (tmp_path / "closed").mkdir(mode=0o700)
    place = tmp_path / "closed" / "runs"
    with _as_nobody():
        outcome = kourou("ps", "--runs-dir", str(place))
    assert outcome.code == 2
    assert f"{place}: permission denied; --runs-dir or KOUROU_RUNS_DIR choose another place" in outcome.err
