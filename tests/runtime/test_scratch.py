"""Folders that go with their process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kourou.runtime.files.scratch import ScratchFolder

HOLDER = """
from kourou.runtime.files.scratch import ScratchFolder
f = ScratchFolder(); print(f.path, flush=True); input()
"""


@pytest.fixture
def home(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which may be too long for sockets
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_a_folder_is_private_and_goes_with_all_that_is_in_it(home):
    # Given
    scratch = ScratchFolder()
    (scratch.path / "some.sock").touch()
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    # When
    scratch.remove()
    scratch.remove()
    # Then
    assert [list(folder.iterdir()) for folder in home.iterdir()] == [[]]


def test_the_next_one_removes_those_of_the_killed_and_leaves_those_of_the_living(home):
    # Given two processes with a folder each, one of which is killed
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [holder.stdout.readline().strip() for holder in holders if holder.stdout]
    holders[0].kill()
    holders[0].wait()
    # When
    scratch = ScratchFolder()
    left = {str(path) for folder in home.iterdir() for path in folder.iterdir()}
    for holder in holders:
        holder.kill()
        holder.communicate()
    scratch.remove()
    # Then
    assert left == {folders[1], str(scratch.path)}


def test_a_folder_in_use_is_locked_itself_as_cleaners_of_temporary_files_ask(home):
    scratch = ScratchFolder()
    folder = os.open(scratch.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)
    scratch.remove()
