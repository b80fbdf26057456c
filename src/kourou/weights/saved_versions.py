"""Versions in files: the last one of each name is written when its server stops, and is there again with the next."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from pathlib import Path
from typing import NamedTuple

from kourou.checkpoint_files import as_file_name, write_synced
from kourou.errors import WeightsError
from kourou.ownership import check_own, make_own_folder, read_own
from kourou.weights.reading import BoardReader
from kourou.weights.slot_layout import Contents, unpack

_SUFFIX = ".weights"


class SavedVersion(NamedTuple):
    """A version that was in a file.

    Attributes:
        name: of the weights.
        version, publisher, age_s: as it was; the time since then counts.
        contents: its bytes.
    """

    name: str
    version: int
    publisher: str
    age_s: float
    contents: Contents


def save(folder: Path, name: str, reader: BoardReader) -> None:
    """Write the latest version, if there is one; whoever is killed meanwhile leaves the one that was there before.

    Raises:
        OSError: there is no room, or it may not be written there.
    """
    found = reader.newest()
    if found is None or found.memory is None:
        return
    make_own_folder(folder)
    published_at = time.time() - (time.monotonic_ns() - found.published_ns) / 1e9
    facts = {
        "name": name,
        "version": found.version,
        "publisher": reader.page.publisher,
        "published_at": published_at,
        "buffers": len(found.contents.buffers),
    }
    path = folder / f"{as_file_name(name)}{_SUFFIX}"
    temporary = path.with_suffix(".part")
    try:
        write_synced(temporary, json.dumps(facts).encode() + b"\n", found.memory)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def load(folder: Path) -> list[SavedVersion]:
    """What is in the files of a folder, if there are any.

    Raises:
        NotOwned: others can write there.
        WeightsError: a file is damaged.
    """
    if not folder.exists():
        return []
    check_own(folder)
    return [_load(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]


def _load(path: Path) -> SavedVersion:
    line, _, memory = read_own(path).partition(b"\n")
    try:
        facts = json.loads(line)
        contents = unpack(memoryview(memory), facts["buffers"])
        age_s = max(0.0, time.time() - facts["published_at"])
        return SavedVersion(facts["name"], facts["version"], facts["publisher"], age_s, contents)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise WeightsError(f"{path} has no weights that can be read: {error}; remove it to begin without") from error
