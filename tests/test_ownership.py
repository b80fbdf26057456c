"""What others could have written is not read."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from kourou.errors import NotOwned
from kourou.ownership import check_own, make_own_folder, open_own, read_own, replace_own, write_own
from strangers import give_away, needs_root


def _file(path: Path, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"contents")
    path.chmod(mode)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(0o755)
    return path


def test_what_is_ours_is_read(folder):
    assert read_own(_file(folder / "own", 0o644)) == b"contents"
    with open_own(folder / "own") as file:
        assert file.read(3) == b"con"


@pytest.mark.parametrize("mode", [0o622, 0o606])
def test_a_file_that_others_can_write_to_is_refused(folder, mode):
    path = _file(folder / "shared", mode)
    with pytest.raises(NotOwned, match=r"others can write to .*shared.*chmod go-w"):
        read_own(path)


def test_what_mends_it_can_be_pasted_into_a_shell(tmp_path):
    path = _file(tmp_path / "it's a folder; really" / "shared", 0o622)
    with pytest.raises(NotOwned, match="mend it with: ") as refused:
        read_own(path)
    subprocess.run(str(refused.value).rpartition("mend it with: ")[2], shell=True, check=True)  # noqa: S602
    assert read_own(path) == b"contents"


def test_a_folder_that_others_can_write_to_is_refused(folder):
    path = _file(folder / "own")
    folder.chmod(0o777)
    with pytest.raises(NotOwned, match=r"others can write to .*folder,"):
        read_own(path)
    with pytest.raises(NotOwned, match="chmod go-w"):
        check_own(folder)


def test_in_a_folder_that_nobody_else_enters_modes_do_not_matter(folder):
    path = _file(folder / "loose", 0o666)
    folder.chmod(0o700)
    assert read_own(path) == b"contents"


def test_in_a_sticky_folder_a_file_of_ours_can_be_replaced_by_nobody(folder):
    path = _file(folder / "own")
    folder.chmod(0o1777)
    assert read_own(path) == b"contents"
    check_own(folder)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(NotOwned, match="not a plain file"):
        read_own(folder / "pipe")


def test_a_file_that_is_not_there_is_told_as_usual(folder):
    with pytest.raises(FileNotFoundError):
        read_own(folder / "nothing")
    with pytest.raises(FileNotFoundError):
        read_own(folder / "no" / "thing")


@needs_root
def test_a_file_of_another_user_is_refused(folder):
    path = _file(folder / "theirs", 0o644)
    give_away(path)
    with pytest.raises(NotOwned, match=r"theirs belongs to user"):
        read_own(path)


@needs_root
def test_a_file_in_a_folder_of_another_user_is_refused(folder):
    path = _file(folder / "own")
    give_away(folder)
    with pytest.raises(NotOwned, match=r"folder belongs to user"):
        read_own(path)
    with pytest.raises(NotOwned):
        make_own_folder(folder)


@needs_root
def test_a_link_leads_to_the_owner_of_what_it_points_to(folder):
    theirs = _file(folder / "theirs")
    give_away(theirs)
    (folder / "link").symlink_to(theirs)
    with pytest.raises(NotOwned, match="belongs to user"):
        read_own(folder / "link")


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_a_folder_that_is_made_is_nobody_elses_to_write(tmp_path, umask):
    # Given a folder that a loose umask has left open, and one that is not there yet
    before = os.umask(umask)
    try:
        (tmp_path / "old").mkdir()
        # When
        for name in ("old", "new"):
            make_own_folder(tmp_path / name)
    finally:
        os.umask(before)
    # Then
    assert (tmp_path / "old").stat().st_mode & 0o022 == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_what_is_written_is_nobody_elses_to_read_and_replaces_nothing(tmp_path: Path) -> None:
    write_own(tmp_path / "secret", b"x")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert read_own(tmp_path / "secret") == b"x"
    with pytest.raises(FileExistsError):
        write_own(tmp_path / "secret", b"y")


def test_what_is_replaced_is_there_whole_and_a_failure_leaves_it(tmp_path: Path) -> None:
    # Given a file that somebody reads
    path = tmp_path / "order"
    replace_own(path, b"first")
    with path.open("rb") as reader:
        # When another one takes its place
        replace_own(path, b"second", mode=0o644)
        # Then the reader has the first one, and the next the second
        assert (reader.read(), path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", b"second", 0o644)
    # And when there is no room for a third, that stays, and nothing else
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            replace_own(path, b"third")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"second")
