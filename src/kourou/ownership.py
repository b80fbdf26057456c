"""What decides what this process does (a pickle, a token, where a run's servers are) is read only if it is this user's.

Who can write such a file can run code as whoever reads it. So it has to belong to this user, or to root, who can do
that anyway, and nobody else may be able to write to it, or to put another one into its place. All readers of such files
come here, as ssh's do for its keys.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from pathlib import Path
from typing import BinaryIO

from kourou.errors import NotOwned

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # somebody's pipe in place of the file would be waited for


def open_own(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read its bytes; what is opened is what was checked.

    Raises:
        NotOwned: the file or its folder belongs to somebody else, or others can write to it.
        OSError: there is none, or it cannot be read.
    """
    parent, name = os.path.split(path)
    parent = parent or os.curdir
    folder = os.open(parent, _FOLDER)
    try:
        around = os.fstat(folder)
        _check(around, parent)
        file = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        facts = os.fstat(file)
        _check_plain(facts, path)
        _check(facts, path, is_shut_away=not around.st_mode & (stat.S_IXGRP | stat.S_IXOTH))
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_own(path: str | os.PathLike[str]) -> bytes:
    """The contents of a file; see :func:`open_own`."""
    with open_own(path) as file:
        return file.read()


def write_own(path: str | os.PathLike[str], content: bytes, mode: int = 0o600) -> None:
    """Make a file that nobody else can write to, or read unless ``mode`` lets them, not even while it is made.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written; then there is none.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        Path(path).unlink()
        raise


def replace_own(path: Path, content: bytes, mode: int = 0o600) -> None:
    """As :func:`write_own`, in place of an earlier file: readers find that or this one, and whole.

    Raises:
        OSError: it cannot be written; the earlier one is untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    write_own(draft, content, mode)
    draft.replace(path)


def check_own(folder: str | os.PathLike[str]) -> None:
    """See that a folder, and what is in it, is nobody else's to write.

    Raises:
        NotOwned: it belongs to somebody else, or others can write to it.
        OSError: there is none.
    """
    _check(Path(folder).stat(), Path(folder))


def make_own_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder that others can neither write to nor look into.

    One of this user's that is there already is mended, whatever the umask was that it was made with: others cannot
    write to it any more.

    Raises:
        NotOwned: it belongs to somebody else.
        OSError: it cannot be made.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = folder.stat()
    if facts.st_uid == os.geteuid() and facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(stat.S_IMODE(facts.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    check_own(folder)


def _check_plain(facts: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise NotOwned(f"{path} is not a plain file")


def _check(facts: os.stat_result, path: str | os.PathLike[str], *, is_shut_away: bool = False) -> None:
    """``is_shut_away``: others cannot come to it, whatever its own mode is."""
    if facts.st_uid not in {os.geteuid(), 0}:
        raise NotOwned(f"{path} belongs to {_user_name(facts.st_uid)}: whoever writes it could run code as this user")
    if not is_shut_away and _others_write(facts):
        import shlex  # noqa: PLC0415 - every node comes by here

        quoted = shlex.quote(str(path))
        raise NotOwned(f"others can write to {path}, and so run code as this user; mend it with: chmod go-w {quoted}")


def _others_write(facts: os.stat_result) -> bool:
    """In a sticky folder, such as the one for temporary files, nobody can replace what is another's."""
    if stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX:
        return False
    if facts.st_mode & stat.S_IWGRP and not _is_private_group(facts.st_gid):
        return True
    return bool(facts.st_mode & stat.S_IWOTH)


@functools.lru_cache(maxsize=64)
def _is_private_group(gid: int) -> bool:
    """Whether nobody but this user is in the group: many systems give each user one, and a umask of 002."""
    try:
        me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return me.pw_gid == gid and group.gr_name == me.pw_name and set(group.gr_mem) <= {me.pw_name}


def _user_name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
