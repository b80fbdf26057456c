"""The terminal ``tmux_session``: a tmux session of the run, with a window for each node that follows its log.

The windows only show. Nodes run under the supervisor as always, so their exits are known; and a window stays when its
node has ended, with how it ended below the last line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou import errors

TMUX_SESSION = "tmux_session"
"""The terminal's name."""

# sys.path as it is here, so that the window finds the same kourou wherever it runs.
_BOOT = (
    "import sys; sys.path[:] = {path}; from kourou.runtime.output.tmux_window import main; main({folder!r}, {node!r})"
)
_SIZE = ("-x", "200", "-y", "50")  # until somebody attaches


def check_tmux() -> None:
    """Find out before anything is started.

    Raises:
        MissingExtra: libtmux is not installed.
        LaunchError: tmux is not installed.
    """
    try:
        import libtmux  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise errors.MissingExtra("libtmux", "tmux") from None
    if shutil.which("tmux") is None:
        raise errors.LaunchError(
            "terminal='tmux_session' needs tmux, which is not on the PATH: install it (apt install tmux, "
            "brew install tmux), or choose terminal='current_terminal'"
        )


def session_name(run_id: str) -> str:
    """The session of a run: its id, without the two characters that mean something to tmux."""
    return re.sub(r"[.:]", "-", run_id)


def open_session(folder: Path, nodes: Sequence[str]) -> None:
    """Make the session of a run and say how to get there; it stays until somebody ends it.

    Raises:
        LaunchError: tmux refused.
    """
    inside, server = _server()
    name = session_name(folder.name)
    _make(server, ("new-session", *_SIZE, "-s", name), folder, nodes[0])  # with the first window
    add_windows(folder, nodes[1:])
    attach = f"tmux switch-client -t ={name}" if inside else f"tmux attach -t ={name}"
    print(f"kourou: the nodes are in tmux: {attach}", file=sys.stderr, flush=True)  # noqa: T201 - it is announced


def add_windows(folder: Path, nodes: Sequence[str]) -> None:
    """Make windows of more nodes.

    Raises:
        LaunchError: tmux refused.
    """
    _, server = _server()
    for node in nodes:  # "=name:" is the session of exactly that name
        _make(server, ("new-window", "-t", f"={session_name(folder.name)}:"), folder, node)


def _server() -> tuple[str | None, Any]:
    """Where this launcher runs itself, if it does so in tmux, and tmux."""
    import libtmux  # noqa: PLC0415 - an extra

    inside = os.environ.get("TMUX")  # socket, process and session
    return inside, libtmux.Server(socket_path=inside.split(",")[0]) if inside else libtmux.Server()


def _make(server: Any, make: tuple[str, ...], folder: Path, node: str) -> None:
    _tmux(server, *make, "-d", "-n", window_name(node), "--", *_window_command(folder, node))


def window_name(node: str) -> str:
    """A node's name without a meaning to tmux, which expands # in names."""
    return node.replace("#", "##")


def _window_command(folder: Path, node: str) -> tuple[str, ...]:
    path = json.dumps([str(Path(entry).absolute()) for entry in sys.path])
    return sys.executable, "-c", _BOOT.format(path=path, folder=str(folder), node=node)


def _tmux(server: Any, *command: str) -> None:
    result = server.cmd(*command)
    if result.stderr or result.returncode:
        raise errors.LaunchError(f"tmux {command[0]} failed: {' '.join(result.stderr) or result.returncode}")
