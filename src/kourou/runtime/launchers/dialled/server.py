"""Where agents call their launcher: one port, one event loop in one thread, however many they are."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import time
from collections.abc import Callable, Collection
from typing import Any

from kourou import errors
from kourou.runtime.host_agent.addresses import own_addresses
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.dialling import BYE, SERVER_NAME, SHELL, TUNNEL
from kourou.runtime.host_agent.link import Link
from kourou.runtime.host_agent.liveness import heartbeat_s
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.session import BrokenSession, Session
from kourou.runtime.host_agent.tunnel import Tunnel
from kourou.runtime.launchers.dialled.listener import Listener
from kourou.runtime.launchers.dialled.transport import DialledTransport
from kourou.runtime.launchers.hosts.transport import TransportEvents

_LOOK_S = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Early:
    """An agent that has called before it is expected. It was answered, so that it waits, and has nothing to say yet."""

    link: Link
    session_id: str
    name: str
    session: Session = dataclasses.field(default_factory=Session)

    def dismiss(self) -> None:
        self.session.put((BYE,))
        self.link.flush()


class AgentServer:
    """Listens from the beginning. Its owner closes it, after all transports.

    Nothing that a caller says is unpickled before it has shown the token, over TLS.

    Args:
        order: what agents are told, but for what is known here: where they call, and whom they trust.
        authority: signs this end's certificate.
        address: where to listen; None: on all of this machine's addresses.
        port: likewise; 0: one that the kernel chooses.
        words: what the engine said last, for messages.
        coordinator: where shells' connections lead.
    """

    def __init__(
        self,
        order: DialOrder,
        authority: Authority,
        *,
        address: str | None = None,
        port: int = 0,
        words: Callable[[], str] = str,
        coordinator: tuple[str, int] | None = None,
    ) -> None:
        self.thread = LoopThread("kourou-agents")
        self._order = dataclasses.replace(order, authority=authority.certificate.decode("ascii"))
        self._address = address
        self._words = words
        self._coordinator = coordinator
        self._shells: dict[Link, Tunnel] = {}
        self._expected: dict[int, DialledTransport] = {}
        self._early: dict[int, _Early] = {}
        self._leaving = False
        self._owners: dict[Link, DialledTransport] = {}
        self._over: set[str] = set()  # sessions of hosts that were taken for dead
        context = authority.issue(SERVER_NAME).make_context()
        try:
            self._listener = Listener(
                self.thread.loop, (address, port), context, lambda: Link(self._on_line, self._on_closed)
            )
        except OSError as error:
            self.thread.close()
            raise errors.LaunchError(f"cannot listen for agents: {error}") from error
        self.thread.post(self._listener.open)
        self.thread.post(self._look)

    @property
    def order(self) -> DialOrder:
        """What agents need to know."""
        port = self._listener.port
        hosts = [self._address] if self._address else own_addresses()
        return dataclasses.replace(self._order, addresses=tuple((host, port) for host in hosts))

    def expect(self, place: int, events: TransportEvents, within_s: float) -> DialledTransport:
        """The transport of an agent that will call, or has called already."""
        until = time.monotonic() + within_s
        transport = DialledTransport(self.thread, place, events, until=until, words=self._words)

        def begin() -> None:
            before = self._expected.get(place)
            if before is not None and before.session_id is not None:
                self._over.add(before.session_id)
            self._expected[place] = transport
            if (early := self._early.pop(place, None)) is not None:
                self._owners[early.link] = transport
                transport.attach(early.link, early.session_id, early.name, 0, answers=False)

        self.thread.post(begin)
        return transport

    def wait_for_callers(self, places: Collection[int], timeout_s: float) -> bool:
        """Wait until agents of all these places have called; False when the time passed first."""
        deadline = time.monotonic() + timeout_s
        while not self._early.keys() >= set(places):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def hang_up(self) -> None:
        """Tell all agents to end; returns at once."""
        for transport in list(self._expected.values()):
            transport.hang_up()
        self.thread.post(self._dismiss)

    def _dismiss(self) -> None:
        """Those who called and are not needed are told to end as well."""
        self._leaving = True
        for early in self._early.values():
            early.dismiss()

    def close(self) -> None:
        """Listen no more, and end what is left. Idempotent."""
        if self.thread.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self.thread.loop).result()
        self.thread.call(lambda: None)  # what was aborted has ended
        self.thread.close()

    async def _end(self) -> None:
        for link in (*self._owners, *self._shells, *(early.link for early in self._early.values())):
            link.abort()
        await self._listener.close()

    def _on_line(self, link: Link, line: dict[str, Any]) -> None:
        self._listener.forget(link)
        if not hmac.compare_digest(str(line.get("token", "")).encode(errors="replace"), self._order.token.encode()):
            link.abort()
        elif line.get("role") == SHELL:
            self._serve_shell(link)
        else:
            self._attach(link, line)

    def _serve_shell(self, link: Link) -> None:
        """Another shell, on another host: its connections lead to the coordinator, as an agent's do."""
        session = Session()

        def send(*piece: Any) -> None:
            session.put((TUNNEL, *piece), first=True)
            link.flush()

        tunnel = self._shells[link] = Tunnel(self.thread, send, exit_to=self._coordinator)
        link.begin(session, 0, lambda _, *piece: tunnel.receive(*piece), answers=True)

    def _attach(self, link: Link, line: dict[str, Any]) -> None:
        place, session_id = int(line["place"]), str(line["session"])
        transport = self._expected.get(place)
        if session_id in self._over or (
            transport is not None and transport.over and transport.session_id == session_id
        ):
            link.say({"refused": "its host was lost meanwhile, and what it ran started elsewhere"})
            link.close()
            return
        if transport is not None and transport.session_id not in {None, session_id}:
            transport.lose("another agent was started there")
            self._over.add(str(transport.session_id))
        name, heard = str(line.get("name", "")), int(line["heard"])
        try:
            if transport is None or transport.over:
                self._hold(place, _Early(link=link, session_id=session_id, name=name), heard)
            else:
                transport.attach(link, session_id, name, heard)
                self._owners[link] = transport
        except BrokenSession as error:
            link.say({"refused": str(error)})
            link.close()

    def _hold(self, place: int, early: _Early, heard: int) -> None:
        """Keep an agent that is not wanted yet, or that never will be, until it is, or all are told to end.

        Raises:
            BrokenSession: it has heard of another launcher.
        """
        early.link.begin(early.session, heard, lambda *_: early.link.abort(), answers=True)
        before, self._early[place] = self._early.get(place), early
        if before is not None:
            before.link.abort()
            if before.session_id != early.session_id:
                self._over.add(before.session_id)
        if self._leaving:
            early.dismiss()

    def _on_closed(self, link: Link) -> None:
        self._listener.forget(link)
        if (tunnel := self._shells.pop(link, None)) is not None:
            tunnel.close()
        if (transport := self._owners.pop(link, None)) is not None:
            transport.detach(link)
        for place in [place for place, early in self._early.items() if early.link is link]:
            del self._early[place]

    def _look(self) -> None:
        """Some times in the time after which silence means death. Asyncio takes what has come before it calls this."""
        for link in (*self._shells, *(early.link for early in self._early.values())):
            link.show_life()
            if time.monotonic() - link.heard_at > self._order.silence_s:
                link.abort()
        for transport in list(self._expected.values()):
            transport.look(self._order.silence_s)
            if transport.over and transport.session_id is not None:
                self._over.add(transport.session_id)
        self.thread.loop.call_later(min(1.0, heartbeat_s(self._order.silence_s) / 2), self._look)
