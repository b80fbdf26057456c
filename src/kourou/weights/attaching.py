"""The way to a board: asked of the server once, and again when another server has taken its place."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from kourou import courier
from kourou.shared_files import SharedFile
from kourou.weights.reading import BoardReader, Reader
from kourou.weights.relays import Relays
from kourou.weights.remote import RemoteReader, RemoteWriter
from kourou.weights.writing import BoardWriter

_SHARING_LANES = {"inproc", "local"}  # both ends are on one host
_TRIES = 3  # a server may be restarted between its answer and our look at its memory


class Way:
    """How to come to the board of a name.

    Args:
        calls: a client of the server.
        name: of the weights.
        connect_timeout_s: for calls that do not wait for anything but the connection; None waits for ever.
        caller: whose way it is; for messages.
        relays: the way by one process of this host; None: each reader takes its own.
    """

    def __init__(
        self,
        calls: courier.Client,
        name: str,
        connect_timeout_s: float | None,
        *,
        caller: str | None,
        relays: Relays | None,
    ) -> None:
        self.name = name
        self.caller = caller
        self._relays = relays
        self.server = courier.address(calls)
        self._once = courier.with_options(calls, timeout_s=connect_timeout_s)
        self._calls = courier.with_options(calls, timeout_s=connect_timeout_s, idempotent=True)
        self._grace_s = connect_timeout_s if connect_timeout_s is not None else 60.0

    def ask(self) -> Future[SharedFile]:
        """Ask where the board is."""
        return self._calls.futures.open_board(self.name)

    def reader(self, answer: Future[SharedFile] | None = None) -> Reader:
        """A reader of the board; waits for the server's answer.

        Raises:
            RpcError: the server cannot be reached.
        """
        here = self._attach(BoardReader, answer)
        if here is None and self._relays is not None:
            here = self._relays.reader(self.name, self._remote, self._grace_s)
        return here or self._remote()

    def _remote(self) -> RemoteReader:
        return RemoteReader(self._calls, self.name, self._grace_s)

    def writer(self) -> BoardWriter | RemoteWriter:
        """As :meth:`reader`, to publish."""
        return self._attach(lambda file: BoardWriter(self.name, file), None) or RemoteWriter(self._once, self.name)

    def _attach(self, make: Any, answer: Future[SharedFile] | None) -> Any:
        for _ in range(_TRIES):
            file = (answer or self.ask()).result()
            if courier.lane(self._calls) not in _SHARING_LANES:
                return None
            try:
                return make(file)
            except FileNotFoundError:
                answer = None
        return None  # the system does not let us
