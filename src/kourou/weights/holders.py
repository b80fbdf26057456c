"""Which processes have memory mapped; for messages."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

__all__ = ["processes_that_map"]


def processes_that_map(inodes: AbstractSet[int]) -> list[int]:
    """The processes of this user that read any of these files: publishers map them as well, but not for themselves."""
    wanted = {str(inode) for inode in inodes}
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            lines = (folder / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # it has ended, or is another user's
            continue
        if any("kourou-weights" in line and _is_private(*line.split()[1:5], wanted=wanted) for line in lines):
            found.append(int(folder.name))
    return sorted(found)


def _is_private(access: str, _offset: str, _device: str, inode: str, *, wanted: AbstractSet[str]) -> bool:
    return access.endswith("p") and inode in wanted
