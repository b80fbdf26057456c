"""The folder that this process works in, and what users name from there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from kourou.errors import KourouError, LaunchError


def working_folder() -> Path:
    """It, as an absolute path: what is started starts there, and paths begin there.

    Raises:
        LaunchError: it was deleted, under a shell that is still in it.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise LaunchError("the folder that this process works in was deleted: cd to one that there is") from None


def import_from_here() -> None:
    """Have modules in it found, by what this process starts as well."""
    if (here := str(working_folder())) not in sys.path:
        sys.path.insert(0, here)


def import_named(name: str, mistake: type[KourouError]) -> Any:
    """Import a module, or a file by its stem with its folder on ``sys.path``, so that nodes can import it as well.

    Raises:
        mistake: there is none. Where something is missing that it imports itself, its own traceback says so.
    """
    path = Path(name)
    if path.suffix != ".py":
        import_from_here()
    elif path.is_file():
        sys.path.insert(0, str(path.parent.absolute()))
        name = path.stem
    else:
        raise mistake(f"there is no file {name}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise mistake(f"there is no module {name!r} (looked in the working folder too)") from None
