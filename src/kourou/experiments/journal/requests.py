"""What other shells ask of a sweep's launcher: files in a folder, each written aside and renamed."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from kourou.experiments.journal.run_folder import json_object, write_json

_FOLDER = "requests"
RequestKind: TypeAlias = Literal["cancel", "checkpoint", "retry", "stop"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request."""

    kind: RequestKind
    runs: tuple[str, ...] | None = None
    """Ids of the runs that it is about; None: all."""


def ask(folder: Path, kind: RequestKind, runs: Sequence[str] | None = None) -> None:
    """Leave a request for the launcher of a sweep, which polls five times a second."""
    place = folder / _FOLDER
    place.mkdir(exist_ok=True)
    write_json(place / f"{time.time_ns()}-{secrets.token_hex(4)}.json", {"kind": kind, "runs": runs})


def take_requests(folder: Path) -> list[Request]:
    """The requests that there are, in order; each is taken once, those that cannot be read now by a later call."""
    try:
        paths = sorted(path for path in (folder / _FOLDER).iterdir() if path.name[0] != ".")  # those are being written
    except OSError:  # there are none so far, or there is no descriptor left for them
        return []
    taken = []
    for path in paths:
        try:
            text = path.read_bytes()
        except OSError:
            continue
        data = json_object(text)
        with contextlib.suppress(OSError):
            path.unlink()
        if data is not None and data.get("kind") in get_args(RequestKind):
            runs = data.get("runs")
            taken.append(Request(kind=data["kind"], runs=None if runs is None else tuple(map(str, runs))))
    return taken
