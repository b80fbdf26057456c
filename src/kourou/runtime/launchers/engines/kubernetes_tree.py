"""The folder that travels with a program: packed the same wherever and whenever it is, so that it has a name."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from kourou import errors

_MOST_BYTES = 8 << 20  # it is held in Secrets
_MOST_READ_BYTES = 256 << 20
_NAMED = 3


def pack(folder: Path) -> bytes:
    """The files that git does not ignore; outside of a repository, those that are not hidden.

    Raises:
        PlanError: there is no such folder, or it is too large; the message names what is largest.
    """
    if not folder.is_dir():
        raise errors.PlanError(f"tree: there is no folder {folder}")
    sizes = {path: path.lstat().st_size for path in _files(folder)}
    buffer = io.BytesIO()
    if sum(sizes.values()) <= _MOST_READ_BYTES:
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sizes:
                archive.add(path, str(path.relative_to(folder)), recursive=False, filter=_anonymous)
    if not buffer.tell() or buffer.tell() > _MOST_BYTES:
        largest = ", ".join(
            str(path.relative_to(folder)) for path in sorted(sizes, key=sizes.__getitem__)[: -_NAMED - 1 : -1]
        )
        size, most = sum(sizes.values()) >> 20, _MOST_BYTES >> 20
        raise errors.PlanError(
            f"tree: {folder} is too large to travel ({size} MiB in {len(sizes)} files, packed more than {most} MiB; "
            f"the largest are {largest}): let git ignore some, name a smaller folder, or put it into the image "
            "(tree=None, -o tree=none)"
        )
    return buffer.getvalue()


def import_folders(folder: Path) -> tuple[str, ...]:
    """The folders below this one that this process imports modules from, as the packed tree has them."""
    paths = (Path(entry).absolute() for entry in sys.path if Path(entry).is_dir())
    inside = (path.relative_to(folder) for path in paths if path.is_relative_to(folder))
    own = Path(sys.prefix).absolute()
    return tuple(str(each) for each in dict.fromkeys(inside) if not (folder / each).is_relative_to(own))


def _files(folder: Path) -> list[Path]:
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        told = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8", "surrogateescape")
        found = [folder / name for name in told.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # no git here, or no repository
        found = list(_not_hidden(folder))
    return sorted(path for path in found if path.is_symlink() or path.is_file())


def _not_hidden(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _not_hidden(path)
        else:
            yield path


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry
