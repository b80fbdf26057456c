"""Relays of this process, and finding the one of this host."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from kourou import courier
from kourou.courier.core.endpoint import host_id
from kourou.shared_files import OpenedFile, SharedFile
from kourou.weights.locks import alone, try_exclusive
from kourou.weights.reading import BoardReader, Found
from kourou.weights.relay import Dial, Relay
from kourou.weights.remote import RemoteReader

_POLL_S = 0.005
_COMING_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relaying:
    """What a process needs to be the relay of its host.

    Attributes:
        folder: where processes of this host and user that read the same weights meet; nobody else's to write.
        serve: makes the server for relays of other hosts, not started.
    """

    folder: str
    serve: Callable[[], courier.Server]


class Relays:
    """The way to weights of another host by way of a relay.

    Args:
        relaying: what this process needs to be one.
        server: the weights' server, in words that are the same in all processes of a host.
        dial: see :class:`kourou.weights.relay.Relay`.
    """

    def __init__(self, relaying: Relaying, server: str, dial: Dial) -> None:
        self._relaying = relaying
        self._server = server
        self._dial = dial
        self._own: list[Relay] = []

    def reader(self, name: str, remote: Callable[[], RemoteReader], timeout_s: float) -> BoardReader | None:
        """A reader of the board of this host's relay, which this process becomes if there is none.

        Args:
            name: of the weights.
            remote: how to read them without a relay.
            timeout_s: how long to wait for a relay that has just begun.
        """
        key = hashlib.sha256(f"{self._server} {name} {host_id()}".encode()).hexdigest()[:24]
        path = Path(self._relaying.folder) / f"weights-{key}"
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            path.touch(0o600)
            role = alone(OpenedFile(path, "r+"))
            with contextlib.ExitStack() as unless_taken:
                unless_taken.callback(role.close)
                if try_exclusive(role.fileno()):
                    role.truncate(0)
                    self._own.append(Relay(name, self._relaying.serve(), self._dial, role))
                    unless_taken.pop_all()
                    continue
                try:
                    return _RelayedReader(SharedFile(**json.loads(role.read())), remote)
                except (ValueError, FileNotFoundError):  # it has just begun, or ended
                    time.sleep(_POLL_S)
        return None

    def close(self) -> None:
        """Be a relay no more."""
        while self._own:
            self._own.pop().close()


class _RelayedReader(BoardReader):
    """The board of a relay; versions that it never had, or has no more, are fetched from the server."""

    def __init__(self, file: SharedFile, remote: Callable[[], RemoteReader]) -> None:
        super().__init__(file)
        self._remote = remote

    def exact(self, version: int) -> Found | None:
        """Map this very version, or fetch it."""
        deadline = time.monotonic() + _COMING_S
        while (found := super().exact(version)) is None and version <= self.page.offered_version:
            latest = self.latest_row
            if (latest is not None and latest.version >= version) or time.monotonic() > deadline:
                return self._remote().exact(version)
            self.wait(self.latest(), _POLL_S)  # it is on its way
        return found
