"""Sockets of the local lane: where they lie, who may use them, and how a connection begins.

A client connects, sends one greeting with the token and the descriptor of a second socket, and gets one answer. The
second socket carries nothing but the descriptors of shared memory: reading the first one with ``recvmsg``, just in
case, would cost every call.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import secrets
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from kourou.errors import LaunchError, ProtocolError, ServerUnavailable, Unauthenticated

_MAGIC = b"KOUROU\x01\n"  # the 1 is the version of the frames
WELCOME = b"WELCOME\n"
_REFUSED = b"REFUSED\n"
GREETING_BYTES = 1024  # longer than any token: what is longer is no greeting
_LONGEST_PATH = 107  # bytes that Linux allows for the name of a socket
_LONGEST_FOLDER = _LONGEST_PATH - len("/r-12345678") - len("/0123456789abcdef.sock~")
_SHORT_BASE = "/tmp"  # noqa: S108 - what is there is checked
_BACKLOG = 1024
_DYING_S = 1.0
_DYING_PAUSE_S = 2e-3
_TOO_MANY = frozenset({errno.EAGAIN, errno.ETOOMANYREFS})  # descriptors on their way: in this socket, or of this user
_NOT_INHERITED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # by what the process starts
_PF_EXITING = 0x4  # in the flags of /proc/PID/stat: the process is about to close what it has open
_CREDENTIALS = struct.Struct("3i")
_DESCRIPTOR = struct.Struct("i")


def default_folder() -> str:
    """This user's folder for sockets: private, and shared by all servers that were not given one.

    It lies in ``XDG_RUNTIME_DIR``, else in the folder for temporary files, else in ``/tmp``, else below the user's
    state directory: the first that can be written, is short enough for the name of a socket in a folder of its own, and
    where nobody else has made a folder of that name first. Who looks for a server is told its socket, not the folder.

    Raises:
        LaunchError: there is none; says what was wrong with each.
    """
    import tempfile  # noqa: PLC0415 - nodes are given a folder, and need none of it

    import platformdirs  # noqa: PLC0415 - likewise

    bases = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), _SHORT_BASE)
    folders = [Path(base, f"kourou-{os.getuid()}") for base in bases if base]
    state = platformdirs.user_state_path("kourou")
    refused = []
    for folder in dict.fromkeys([*folders, state / "sockets"]):
        try:
            if folder.parent == state:  # the others' parents are there, or are not used
                state.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(folder)
        except OSError as error:
            refused.append(f"{folder}: {error.strerror}")
        else:
            return str(folder)
    raise LaunchError(
        f"no folder for sockets; set XDG_RUNTIME_DIR to one of yours, of {_LONGEST_FOLDER - 16} bytes or less "
        f"({'; '.join(refused)})"
    )


def _make_private(folder: Path) -> None:
    """Make a folder, or make sure of it.

    Raises:
        OSError: that is not possible, or the folder is somebody else's.
    """
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        raise OSError(errno.ENAMETOOLONG, f"longer than {_LONGEST_FOLDER} bytes")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "is not a folder of this user")
    folder.chmod(0o700)


def listen(folder: str) -> tuple[socket.socket, str]:
    """A listening socket in a private folder, and its path.

    The socket gets its name when it already listens, so nobody who finds it is turned away, and one that turns
    clients away is known to be dead (``sweep``).
    """
    path = new_path(folder)
    draft = f"{path}~"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(draft)
        os.chmod(draft, 0o600)  # noqa: PTH101 - every node does this at its start, and paths are slow
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        os.rename(draft, path)  # noqa: PTH104 - likewise
    except BaseException:
        listener.close()
        Path(draft).unlink(missing_ok=True)
        raise
    return listener, path


def new_path(folder: str) -> str:
    """The path of a socket that is to be made in a folder, or in the usual one if that path would be too long.

    A folder that a cleaner of temporary files has removed is made again.
    """
    path = os.path.join(folder, f"{secrets.token_hex(8)}.sock")  # noqa: PTH118 - the kernel takes strings
    if len(os.fsencode(path)) + 1 > _LONGEST_PATH:
        return new_path(default_folder())
    if not os.path.exists(folder):  # noqa: PTH110 - every node asks at its start
        if not Path(folder).parent.exists():
            _make_private(Path(folder).parent)
        Path(folder).mkdir(mode=0o700, exist_ok=True)
    return path


def sweep(path: str, server: int | None = None) -> None:
    """Remove a socket, or the sockets in a folder, whose server was killed before it could.

    Args:
        path: of the socket or the folder.
        server: process of a server whose connection broke. While it is dying its socket may still take connections,
            for the kernel closes one descriptor after the other; so it is given a second for that.
    """
    deadline = time.monotonic() + _DYING_S
    for one in _sockets(path):
        while not _swept(one) and server is not None and _is_dying(server) and time.monotonic() < deadline:
            time.sleep(_DYING_PAUSE_S)


def _swept(path: str) -> bool:
    """Remove a socket that takes no connections. False when it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:  # it is gone, or so busy that it is not dead
            pass
        else:
            return False
    return True


def _is_dying(process: int) -> bool:
    try:
        state, flags = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:7:6]
    except (OSError, ValueError):
        return True
    return state in "ZX" or bool(int(flags) & _PF_EXITING)


def _sockets(path: str) -> Iterator[str]:
    if Path(path).is_dir():
        yield from (str(entry) for entry in Path(path).glob("*.sock"))
    else:
        yield path


def same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end belongs to this user."""
    _, uid, _ = peer(connection)
    return uid == os.getuid()


def peer(connection: socket.socket) -> tuple[int, int, int]:
    """Process, user and group at the other end, as the kernel knows them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(raw)
    return process, user, group


def greet(path: str, token: str, timeout_s: float) -> tuple[socket.socket, socket.socket]:
    """Connect to a server: the socket for frames and the one for descriptors.

    Raises:
        ServerUnavailable: nobody answers there.
        Unauthenticated: the token is wrong, or the server is another user's.
    """
    main = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    side, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            main.settimeout(timeout_s)
            main.connect(path)
            if not same_user(main):
                raise Unauthenticated(f"the server at {path} belongs to another user")
            secret = token.encode()
            socket.send_fds(main, [_MAGIC + struct.pack("<H", len(secret)) + secret], [theirs.fileno()])
        answer = main.recv(len(WELCOME), socket.MSG_WAITALL)
        if answer == _REFUSED:
            raise Unauthenticated(f"the server at {path} expects another token")
        if answer != WELCOME:
            raise ServerUnavailable(f"{path} closed the connection")
        main.setblocking(True)
        side.setblocking(False)
    except OSError as error:
        main.close()
        side.close()
        if isinstance(error, Unauthenticated | ServerUnavailable):
            raise
        raise ServerUnavailable(f"{path}: {error}") from error
    return main, side


def check_greeting(greeting: bytes, token: bytes) -> bool:
    """Whether a greeting is complete.

    Raises:
        ProtocolError: it is none.
        Unauthenticated: it shows another token.
    """
    known = len(_MAGIC)
    if not _MAGIC.startswith(greeting[:known]):
        raise ProtocolError("not a client of kourou")
    if len(greeting) < known + 2:
        return False
    (size,) = struct.unpack_from("<H", greeting, known)
    shown = greeting[known + 2 :]
    if size > GREETING_BYTES or len(shown) > size:
        raise ProtocolError("a greeting that is too long")
    if len(shown) < size:
        return False
    if not hmac.compare_digest(shown, token):
        raise Unauthenticated("missing or wrong token")
    return True


def refuse(connection: socket.socket) -> None:
    """Tell a client that its token is wrong."""
    with contextlib.suppress(OSError):
        connection.send(_REFUSED, socket.MSG_DONTWAIT)


def send_descriptor(side: socket.socket, descriptor: int) -> bool:
    """Pass a descriptor to the peer; False when it has too many to take already."""
    try:
        message = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(descriptor))]
        side.sendmsg([b"\0"], message, socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in _TOO_MANY:
            return False
        raise
    return True


def receive_descriptor(side: socket.socket) -> int:
    """The next descriptor that the peer passed.

    Raises:
        ProtocolError: there is none.
    """
    try:
        _, descriptor = receive_with_descriptor(side, 1)
    except BlockingIOError:
        descriptor = None
    if descriptor is None:
        raise ProtocolError("a segment without its descriptor")
    return descriptor


def receive_with_descriptor(connection: socket.socket, most_bytes: int) -> tuple[bytes, int | None]:
    """What has come, and the descriptor that came with it: the system drops further ones.

    Raises:
        BlockingIOError: nothing has.
    """
    # Not by socket.recv_fds, which forgets its flags (seen on Python 3.11).
    flags = socket.MSG_DONTWAIT | _NOT_INHERITED
    data, ancillary, _, _ = connection.recvmsg(most_bytes, socket.CMSG_LEN(_DESCRIPTOR.size), flags)
    descriptors = [_DESCRIPTOR.unpack(raw)[0] for _, _, raw in ancillary if len(raw) == _DESCRIPTOR.size]
    return data, descriptors[0] if descriptors else None
