"""Where a run comes from, as its folder tells it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from experiments.sweeping import shell_run, sweep

pytestmark = pytest.mark.usefixtures("no_leaks")


def git(*words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "-q")
    Path("code.py").write_text("lr = 1\n")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    return folder


def told(top: Path) -> dict:
    assert sweep(top, [shell_run(top, "r", "true", env={"LEVEL": "3", "MY_API_KEY": "hush"})]).exit_code == 0
    return json.loads((top / "runs" / "r" / "run.json").read_text())


def test_the_commit_and_what_differs_from_it_can_be_had_again(repository: Path, tmp_path: Path) -> None:
    clean = told(tmp_path / "clean")["git"]
    assert clean == {"commit": git("rev-parse", "HEAD"), "dirty": False, "diff": None}
    # when something is changed, and not committed
    Path("code.py").write_text("lr = 2\n")
    dirty = told(tmp_path / "dirty")["git"]
    assert (dirty["commit"], dirty["dirty"]) == (clean["commit"], True)
    git("checkout", "-q", "code.py")
    git("apply", str(tmp_path / "dirty" / "sweep" / dirty["diff"]))
    assert Path("code.py").read_text() == "lr = 2\n"


def test_without_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert told(tmp_path)["git"] is None


def test_only_what_differs_in_the_environment_is_told_and_no_secrets(tmp_path: Path) -> None:
    run = told(tmp_path)
    assert (run["env"]["LEVEL"], run["env"]["MY_API_KEY"]) == ("3", "(hidden)")
    assert "PATH" not in run["env"]
    assert "hush" not in (tmp_path / "runs" / "r" / "run.json").read_text()
    assert run["launcher_argv"]
    assert run["versions"]["kourou"]
