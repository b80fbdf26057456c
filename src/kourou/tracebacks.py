"""Tracebacks for whoever wrote the code that failed: what led to that code comes from here, and is left out."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

from kourou.limits import of_addresses

_OWN = str(Path(__file__).parent) + os.sep
_USERS_PART = _OWN + "testing" + os.sep  # whose checks have handlers as a user's program has
_LIBRARY = str(Path(os.__file__).parent) + os.sep
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\](\w+)")  # a package's name; they may be in the library's folder
_PARSER = "tyro"  # makes the arguments of functions that ``kourou run`` calls


def format_failure(error: BaseException) -> str:
    """An exception as Python shows it, beginning with the first frame of the user's.

    In front of it are kourou's own frames, and those of threading, asyncio, importlib or tyro between them; so in each
    exception that is shown as its cause, too. One that has no other frames keeps them. The last line is the limit that
    may have brought it about, if there is one.
    """
    told = traceback.TracebackException.from_exception(error)
    _shorten(told)
    limit = of_addresses(error)
    return "".join(told.format()) + (f"{limit}\n" if limit else "")


def _shorten(told: traceback.TracebackException | None) -> None:
    if told is None:
        return
    first = next((number for number, frame in enumerate(told.stack) if not _leads_there(frame.filename)), 0)
    del told.stack[:first]
    for one in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        _shorten(one)


def _leads_there(file: str) -> bool:
    if file.startswith(_OWN):  # which may be a package among others
        return not file.startswith(_USERS_PART)
    if installed := _INSTALLED.search(file):
        return installed[2] == _PARSER
    return file.startswith((_LIBRARY, "<frozen "))
