"""Where the local lane's sockets lie: the kernel takes names of 107 bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from kourou.courier.lanes import local_socket
from kourou.runtime.scratch import ScratchFolder

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
    listener, path = local_socket.listen(str(scratch.path))
    # Then the kernel takes the socket's name
    with listener:
        assert Path(path).is_socket()
        assert Path(path).parent == scratch.path
    scratch.remove()


def test_a_server_that_is_told_a_long_folder_listens_in_the_usual_one(tmp_path):
    listener, path = local_socket.listen(_long_folder(tmp_path))
    with listener:
        assert Path(path).is_socket()
        assert Path(path).parent == Path(local_socket.default_folder())
    Path(path).unlink()
