"""Where the local lane's sockets lie: the kernel takes names of 107 bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from kourou.courier import Client, Server
from kourou.courier.lanes.local import socket_file
from kourou.errors import LaunchError
from kourou.runtime.files.scratch import ScratchFolder
from strangers import give_away, needs_root

pytestmark = pytest.mark.usefixtures("no_leaks")


def _long_folder(parent: Path) -> str:
    folder = parent / ("x" * 120)
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_sockets_do_not_lie_in_a_folder_whose_path_is_too_long(tmp_path, monkeypatch, variable):
    # Given a long folder, as clusters and macOS have them
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv(variable, _long_folder(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it was found before the variable was set
    # When a process makes a folder of its own in that of the user, and a server listens there
    scratch = ScratchFolder()
    listener, path = socket_file.listen(str(scratch.path))
    # Then the kernel takes the socket's name
    with listener:
        assert Path(path).is_socket()
        assert Path(path).parent == scratch.path
    scratch.remove()


def test_a_server_that_is_told_a_long_folder_listens_in_the_usual_one(tmp_path):
    listener, path = socket_file.listen(_long_folder(tmp_path))
    with listener:
        assert Path(path).is_socket()
        assert Path(path).parent == Path(socket_file.default_folder())
    Path(path).unlink()


@pytest.fixture
def bases(monkeypatch):
    """The places of temporary files, and the user's state directory; all of them short."""
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as folder:
        places = [Path(folder, name) for name in ("run", "tmp", "short", "state")]
        for place in places:
            place.mkdir()
        run, tmp, short, state = map(str, places)
        monkeypatch.setenv("XDG_RUNTIME_DIR", run)
        monkeypatch.setattr(tempfile, "tempdir", tmp)
        monkeypatch.setattr(socket_file, "_SHORT_BASE", short)
        monkeypatch.setenv("XDG_STATE_HOME", state)
        yield places


def _squat(base: Path) -> Path:
    folder = base / f"kourou-{os.getuid()}"
    folder.mkdir()
    give_away(folder)
    return folder


@needs_root
def test_a_folder_that_another_user_made_first_is_left_to_him(bases):
    # Given a folder of the name that ours would have, and a link of that name to one of ours
    run, tmp, short, state = bases
    _squat(run)
    (tmp / f"kourou-{os.getuid()}").symlink_to(state)
    # When, Then
    assert socket_file.default_folder() == str(short / f"kourou-{os.getuid()}")


@needs_root
def test_if_all_are_taken_it_lies_below_the_state_directory(bases):
    *temporary, state = bases
    for base in temporary:
        _squat(base)
    # When
    folder = Path(socket_file.default_folder())
    # Then it is private, and a server listens there
    assert folder == state / "kourou" / "sockets"
    assert folder.stat().st_mode & 0o777 == 0o700
    listener, path = socket_file.listen(str(folder))
    with listener:
        assert Path(path).is_socket()


@needs_root
def test_what_was_wrong_with_each_is_told(bases, monkeypatch):
    *temporary, state = bases
    for base in temporary:
        _squat(base)
    monkeypatch.setenv("XDG_STATE_HOME", str(state / ("x" * 120)))
    with pytest.raises(LaunchError, match=r"set XDG_RUNTIME_DIR .*is not a folder of this user.*longer than"):
        socket_file.default_folder()


def test_a_folder_of_ours_that_a_loose_umask_has_left_open_is_closed(bases):
    folder = bases[0] / f"kourou-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert socket_file.default_folder() == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_not_there_is_not_made(bases):
    bases[0].rmdir()
    assert Path(socket_file.default_folder()).parent == bases[1]
    assert not bases[0].exists()


def test_a_folder_that_a_cleaner_removed_is_made_again(tmp_path, monkeypatch):
    # Given a run's folder for sockets, which a cleaner of temporary files removes with all that is in it
    with tempfile.TemporaryDirectory() as home:
        monkeypatch.setenv("XDG_RUNTIME_DIR", home)
        scratch = ScratchFolder()
        shutil.rmtree(scratch.path.parent)
        # When a server starts there
        server = Server(token="t", socket_dir=str(scratch.path))
        server.bind("ping", lambda: "pong")
        server.start()
        # Then it listens there, in a folder that is as private as before
        with Client(server.address, token="t") as client:
            assert client.ping() == "pong"
        assert server.endpoint.local is not None
        assert Path(server.endpoint.local).parent == scratch.path
        assert {folder.stat().st_mode & 0o777 for folder in (scratch.path, scratch.path.parent)} == {0o700}
        server.stop()
        scratch.remove()


def test_a_server_of_a_run_asks_no_other_server_whether_it_lives(monkeypatch):
    # Given a run's folder with another server's socket
    scratch = ScratchFolder()
    other, _ = socket_file.listen(str(scratch.path))
    # When a server starts there
    server = Server(socket_dir=str(scratch.path))
    server.start()
    server.stop()
    # Then it did not connect to the other: a program of n servers would make n² connections
    with other, pytest.raises(BlockingIOError):
        other.accept()
    scratch.remove()
