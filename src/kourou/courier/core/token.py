"""The secret that a client shows before a server unpickles anything.

The runtime hands every program a token of its own. Servers and clients that are made by hand, with plain
addresses, share one token for each user, kept in a file that only this user can read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from kourou.errors import Unauthenticated
from kourou.ownership import open_own, write_own

TOKEN_FILE_VARIABLE = "KOUROU_TOKEN_FILE"  # noqa: S105 - the name of a variable, not a secret
_BYTES = 32
_LONGEST = 512  # characters; a file that is longer is not a token


def new_token() -> str:
    """A fresh random token: 64 hexadecimal digits."""
    return secrets.token_hex(_BYTES)


def user_token() -> str:
    """This user's token; made on first use.

    The file is ``token`` in the user's state directory unless KOUROU_TOKEN_FILE names another.

    Raises:
        Unauthenticated: the file is empty, too long, or readable by others.
        NotOwned: it is another user's, or others can write to its folder.
    """
    import platformdirs  # noqa: PLC0415 - nodes are given the token of their run

    named = os.environ.get(TOKEN_FILE_VARIABLE)
    path = Path(named) if named else Path(platformdirs.user_state_dir("kourou")) / "token"
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def _read(path: Path) -> str:
    with open_own(path) as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(_LONGEST + 1).decode(errors="replace").strip()
    if mode & 0o077:
        import shlex  # noqa: PLC0415 - every node comes by here

        mend = f"chmod 600 {shlex.quote(str(path))}"
        raise Unauthenticated(f"the token file {path} can be read by others; mend it with: {mend}")
    if not text or len(text) > _LONGEST:
        raise Unauthenticated(f"the token file {path} does not hold a token; delete it and it is made anew")
    return text


def _create(path: Path) -> None:
    """Write a new token so that no reader ever sees half of it, and the first of two writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    write_own(draft, f"{new_token()}\n".encode())
    try:
        with contextlib.suppress(FileExistsError):  # another process was first: its token counts
            os.link(draft, path)
    finally:
        draft.unlink()
