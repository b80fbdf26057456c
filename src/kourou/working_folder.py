"""The folder that this process works in."""

from __future__ import annotations

from pathlib import Path

from kourou.errors import LaunchError


def working_folder() -> Path:
    """It, as an absolute path: what is started starts there, and paths begin there.

    Raises:
        LaunchError: it was deleted, under a shell that is still in it.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise LaunchError("the folder that this process works in was deleted: cd to one that there is") from None
