"""Run folders: names, places, hostile labels."""

from __future__ import annotations

import json
import re

import pytest

from kourou.errors import LaunchError
from kourou.runtime.files.run_folder import RunFolder, new_run_id, runs_dir

HOSTILE = ["..", ".", "...", "a b", "a/b", "'\"", "!&;$(x)`y`|<>", "Köln-東京-🚀", "x" * 200, "東" * 200, "x" * 5000]
HOSTILE += ["%2E%2E", "-rf", "~", "*", "\n\t", "CON", " ", "a%2Fb", "東" * 200 + "2"]


def test_each_label_has_a_log_of_its_own_inside_of_the_folder(tmp_path):
    folder = RunFolder("run", tmp_path)
    paths = [folder.log_file(f"{label}/0") for label in HOSTILE]
    for label, path in zip(HOSTILE, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(label, encoding="utf-8")
    assert [path.read_text(encoding="utf-8") for path in paths] == HOSTILE
    assert all(path.resolve().is_relative_to(folder.path / "logs") for path in paths)
    assert folder.log_file("plain label/12") == folder.path / "logs" / "plain label" / "12.log"
    folder.close()


@pytest.mark.parametrize("program", ["train", "a b/../c", "東京", "", "x" * 300, "-rf", "..", "!&"])
def test_a_run_id_can_be_typed_and_is_one_folder_name(program):
    run_id = new_run_id(program)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}-\d{8}-\d{6}-[0-9a-f]{6}", run_id)
    assert new_run_id(program) != run_id


def test_the_folder_of_runs_comes_from_the_environment_or_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("KOUROU_RUNS_DIR", str(tmp_path / "a b"))
    assert runs_dir() == tmp_path / "a b"
    monkeypatch.delenv("KOUROU_RUNS_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert runs_dir() == tmp_path / "state" / "kourou" / "runs"


def test_events_and_files_hold_every_text_and_survive_the_close(tmp_path):
    folder = RunFolder("run", tmp_path)
    folder.event("odd", text="line\nbreak \udcff", path=tmp_path)
    folder.write_json("some.json", {"name": "東京", "argv": ["\udcff"]})
    folder.close()
    folder.event("late")
    lines = (folder.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["line\nbreak \udcff"]
    assert "東京" in (folder.path / "some.json").read_text(encoding="utf-8")
    assert [path.name for path in folder.path.iterdir() if path.name.startswith(".")] == []


def test_a_token_is_never_written_over_another(tmp_path):
    folder = RunFolder("run", tmp_path)
    folder.write_token("one")
    with pytest.raises(LaunchError, match="File exists"):
        folder.write_token("two")
    folder.close()
    assert not folder.token_file.exists()
