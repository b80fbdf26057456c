"""Checkpoints on a disk: complete or not there."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from kourou.checkpoint_files import ASIDE, CheckpointFolder, facts_of


def _fill(word: str, folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "word").write_text(word)


def test_the_latest_ones_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept", keep=2)
    assert folder.last() is None
    for word in ("one", "two", "three"):
        folder.write(functools.partial(_fill, word), {"word": word})
    last = folder.last()
    assert last is not None
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-00000002", "checkpoint-00000003"]
    assert facts_of(last)["word"] == (folder.files(last) / "below" / "word").read_text() == "three"


def test_one_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.write(functools.partial(_fill, "one"), {})

    def fail(aside: Path) -> None:
        _fill("two", aside)
        raise KeyError("two")

    with pytest.raises(KeyError):
        folder.write(fail, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_what_a_killed_writer_left_is_removed_and_other_files_are_not(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    (tmp_path / f"{ASIDE}checkpoint-00000001" / "files").mkdir(parents=True)
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "own.txt").touch()
    folder.write(functools.partial(_fill, "one"), {})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000001", "checkpoint-500", "own.txt"]
