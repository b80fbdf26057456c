"""Which runs are listed, and how many of them are read for that."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kourou.errors import NotFound
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.model.status import STATUS_FILE, RunState, RunStatus
from kourou.ui.lists import Listed


def make_run(parent: Path, name: str, *, at: float, ended: bool = True) -> Path:
    folder = RunFolder(name, parent)
    info = RunInfo.of_this_process(
        run_id=name,
        program="p",
        launch_type="local_mp",
        terminal="",
        nodes=1,
        coordinator="",
        stop_s=1.0,
        started_at=at,
    )
    folder.write_json(INFO_FILE, info.to_dict())
    if ended:
        status = RunStatus(
            run_id=name, program="p", launch_type="local_mp", state=RunState.FINISHED, started_at=at, ended_at=at + 1
        )
        folder.write_json(STATUS_FILE, status.to_dict())
    folder.close()
    if not ended:
        folder.write_token("token")
    os.utime(folder.path, (at, at))
    return folder.path


def test_the_newest_are_shown_and_all_that_are_live(tmp_path: Path) -> None:
    for number in range(4):
        make_run(tmp_path, f"run-{number}", at=1000.0 + number)
    make_run(tmp_path, "run-live", at=1.0, ended=False)
    (tmp_path / "something-else").mkdir()
    (tmp_path / "a-file").write_text("")
    listed = Listed(tmp_path, tmp_path)
    for _ in range(2):  # what was read once is known
        rows, more = listed.runs(most=2)
        assert [(row["run"], row["state"]) for row in rows] == [
            ("run-3", "finished"),
            ("run-2", "finished"),
            ("run-live", "running"),
        ]
        assert more == 2
    assert [row["run"] for row in listed.runs("run-1")[0]] == ["run-1"]


def test_one_that_has_ended_is_not_read_again_and_one_that_was_live_is(tmp_path: Path) -> None:
    path = make_run(tmp_path, "run-1", at=1000.0)
    live = make_run(tmp_path, "run-2", at=1001.0, ended=False)
    listed = Listed(tmp_path, tmp_path)
    listed.runs()
    (path / STATUS_FILE).write_text("{}")
    (live / "token").unlink()
    (live / STATUS_FILE).write_text(json.dumps({"state": "failed", "ended_at": 1002.0}))
    rows, _ = listed.runs()
    assert [(row["run"], row["state"]) for row in rows] == [("run-2", "failed"), ("run-1", "finished")]


@pytest.mark.parametrize("name", ["", ".", "..", "../run-1", "run-1/..", "nothing"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "runs", "run-1", at=1000.0)
    with pytest.raises(NotFound):
        Listed(tmp_path / "runs", tmp_path).run(name)
