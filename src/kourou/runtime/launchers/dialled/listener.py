"""The launcher's port. Who has called and not said who it is, is a stranger: there are few, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from kourou.runtime.host_agent.link import Link

_GREETING_S = 10.0  # a stranger who has not said who he is by then is sent away
_MOST_STRANGERS = 512
_MOST_OF_AN_ADDRESS = 128
_BACKLOG = 1024
_AGAIN_S = 0.25  # where no more files can be opened


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Stranger:
    address: str
    socket: socket.socket


class Listener:
    """Listens, once it is open, and shakes hands. All but the constructor is the loop's.

    Whoever is too many makes room for the newest: an agent says who it is within a moment, a flood does not.

    Args:
        loop: which serves it.
        place: host and port to listen at; no host: all of this machine's addresses; 0: a port that the kernel chooses.
        context: proves who this is.
        make_link: makes a connection's protocol, whose first line makes its owner call :meth:`forget`.

    Raises:
        OSError: it cannot listen.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: tuple[str | None, int],
        context: ssl.SSLContext,
        make_link: Callable[[], Link],
    ) -> None:
        self._loop = loop
        self._context = context
        self._make_link = make_link
        self._strangers: dict[Link, _Stranger] = {}  # the oldest first
        self._handshakes: set[asyncio.Task[None]] = set()
        self._socket = _listening(*place)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        """Let callers in, or let them in again."""
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)

    def forget(self, link: Link) -> None:
        """He is no stranger any more, or gone."""
        self._strangers.pop(link, None)

    async def close(self) -> None:
        """Listen no more, and send all strangers away."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for link in list(self._strangers):
            self._send_away(link)
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    def _accept(self) -> None:
        try:
            accepted, (address, *_) = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # too many files are open: who calls waits in the queue
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_AGAIN_S, self.open)
            return
        accepted.setblocking(False)
        self._make_room(address)
        link = self._make_link()
        self._strangers[link] = _Stranger(address=address, socket=accepted)
        self._loop.call_later(_GREETING_S, self._send_away, link)
        handshake = self._loop.create_task(self._shake_hands(link, accepted))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    def _make_room(self, address: str) -> None:
        counts = Counter(each.address for each in self._strangers.values())
        if counts[address] < _MOST_OF_AN_ADDRESS:
            if len(self._strangers) < _MOST_STRANGERS:
                return
            ((address, _),) = counts.most_common(1)
        self._send_away(next(link for link, each in self._strangers.items() if each.address == address))

    async def _shake_hands(self, link: Link, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: link, accepted, ssl=self._context, ssl_handshake_timeout=_GREETING_S
            )
        except OSError:
            self.forget(link)

    def _send_away(self, link: Link) -> None:
        stranger = self._strangers.pop(link, None)
        if stranger is not None:
            link.abort()
            with contextlib.suppress(OSError):
                stranger.socket.shutdown(socket.SHUT_RDWR)  # in the middle of a handshake, which fails then


def _listening(address: str | None, port: int) -> socket.socket:
    if address is not None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)  # noqa: S104 - agents come from anywhere, with a token
