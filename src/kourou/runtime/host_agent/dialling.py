"""The agent of an engine's host: it calls its launcher, over TLS, and calls again where the connection breaks.

What it needs for that is in one file that only its owner can read; its command line holds the file's path alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import secrets
import signal
import socket
import ssl
import sys
import time
import traceback
from typing import Any

from kourou.later import importing
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.link import Link
from kourou.runtime.host_agent.liveness import agents_patience_s, heartbeat_s
from kourou.runtime.host_agent.pipe_agent import Service
from kourou.runtime.host_agent.session import UNREADABLE, BrokenSession, Sender, Session

AGENT = "agent"
"""The role of an agent, in the first line."""
SHELL = "shell"
"""The role of a shell on another host, which calls the coordinator."""
TUNNEL = "tunnel"
"""Kind of the messages that are pieces of connections."""
BYE = "bye"
"""Kind of the message with which a launcher ends its agent."""
NAME_VARIABLE = "KOUROU_HOST_NAME"
"""The variable of an agent that says what its host is called, where the system does not know."""
SERVER_NAME = "launcher.kourou"
"""What a launcher's certificate says that it is."""

_FIRST_CALL_S = 60.0  # a launcher is there before its agents, but perhaps not the way to it
_CONNECT_S = 4.0  # for one address
_GONE_S = 2.0  # so long refused by the very address that it spoke with, and the launcher is dead
_AGAIN_S = 0.25
_FIRST_LOOK_S = 0.02  # for a launcher that does not listen yet
_LOOK_S = 0.1


class Ended(Exception):
    """There is nothing to do any more, or nobody to do it for."""

    def __init__(self, why: str, *, was_refused: bool = False) -> None:
        super().__init__(why)
        self.was_refused = was_refused
        """The launcher is there, and does not want this one."""


class Caller(Sender):
    """Holds a session with a launcher, over as many connections as it takes.

    Args:
        order: whom it calls; it is complete before :meth:`connect`.
        line: what is said first, beside the token.
    """

    def __init__(self, order: DialOrder, line: dict[str, Any]) -> None:
        self.order = order
        self.run_id = "" if line.get("place") in order.idle else order.run_id
        self._line = {**line, "session": secrets.token_hex(8)}
        self._context: ssl.SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._link: Link | None = None
        self._closed = asyncio.Event()  # that link
        self._refused: str | None = None
        self._spoke: tuple[str, int] | None = None
        self.session = Session()
        self.heard_at = time.monotonic()
        self.on_message: Any = lambda *_: None
        self.ends = ("", "")
        """The addresses of this end and of the other one, once they are known."""

    # -- Wire's part, from any thread ---------------------------------------------------------------------------

    def put(self, message: tuple[Any, ...], **how: bool) -> None:
        self.session.put(message, **how)
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._flush)

    def send_bulk(self, *message: Any) -> None:
        """Like :meth:`send`, but wait until there is room: for threads that nobody else needs meanwhile."""
        self.session.wait_for_room()
        self.send(*message)

    def end(self, timeout_s: float) -> None:
        """Nobody waits for room any more."""
        del timeout_s
        self.session.on_full = lambda _: None
        self.session.let_go()

    def _flush(self) -> None:
        self._scheduled = False
        if self._link is not None:
            self._link.flush()

    # -- connections --------------------------------------------------------------------------------------------

    async def connect(self, patience_s: float) -> None:
        """Call until somebody answers.

        Raises:
            Ended: nobody did, or nobody is there any more.
        """
        until, refused_since = time.monotonic() + patience_s, None
        if self._context is None:
            self._context = ssl.create_default_context(cadata=self.order.authority)
            self._context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        while True:
            refused = False
            # Once one has led to the launcher, the others lead to other machines, or nowhere.
            for address in self.order.addresses if self._spoke is None else [self._spoke]:
                try:
                    if await self._try(*address, until):
                        self._spoke = address
                        return
                except ConnectionRefusedError:
                    refused = refused or address == self._spoke
                except (OSError, asyncio.TimeoutError):
                    pass
                if self._refused is not None:
                    raise Ended(f"the launcher refuses: {self._refused}", was_refused=True)
            now = time.monotonic()
            refused_since = (refused_since or now) if refused else None
            if refused_since is not None and now - refused_since > _GONE_S:
                raise Ended("the launcher is gone")
            if now > until:
                tried = ", ".join(f"{host}:{port}" for host, port in self.order.addresses)
                raise Ended(f"no launcher answered for {patience_s:g} s at {tried}")
            await asyncio.sleep(_AGAIN_S)

    async def _try(self, host: str, port: int, until: float) -> bool:
        answered, closed = self._loop.create_future(), asyncio.Event()

        def within_s() -> float:  # nobody is waited for any longer than this agent's own life
            return min(_CONNECT_S, max(_AGAIN_S, until - time.monotonic()))

        def on_line(link: Link, line: dict[str, Any]) -> None:
            if "heard" not in line:
                self._refused = str(line.get("refused", "it speaks another language"))
                link.abort()
            elif not answered.done():
                self.ends = link.own_name(), link.peer_name()
                try:
                    link.begin(self.session, int(line["heard"]), self.on_message)
                except BrokenSession:
                    link.abort()
                    return
                self._link, self._closed = link, closed
                answered.set_result(True)

        def on_closed(link: Link) -> None:
            del link
            closed.set()
            if not answered.done():
                answered.set_result(False)

        first = {**self._line, "token": self.order.token, "heard": self.session.heard}
        connecting = self._loop.create_connection(
            lambda: Link(on_line, on_closed, first), host, port, ssl=self._context, server_hostname=SERVER_NAME
        )
        _, link = await asyncio.wait_for(connecting, within_s())
        assert isinstance(link, Link)  # noqa: S101 - made above
        try:
            if await asyncio.wait_for(answered, within_s()):
                self.heard_at = time.monotonic()
                return True
        finally:
            if link is not self._link:
                link.abort()
        return False

    async def hold(self) -> None:
        """Keep the connection until it breaks, or says nothing for half of the time that means death."""
        assert self._link is not None  # noqa: S101 - it is connected
        silence_s = self.order.silence_s
        show_at = 0.0
        while not self._closed.is_set():
            now = time.monotonic()
            self.heard_at = max(self.heard_at, self._link.heard_at)
            if now - self.heard_at > silence_s / 2:
                self._link.abort()
                break
            if now >= show_at:
                self._link.show_life()
                show_at = now + heartbeat_s(silence_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closed.wait(), min(_LOOK_S * 5, heartbeat_s(silence_s)))
        self.heard_at = max(self.heard_at, self._link.heard_at)

    async def keep(self) -> None:
        """Hold one connection after another, once it is connected, until the launcher is gone.

        Raises:
            Ended: it is.
        """
        while True:
            await self.hold()
            left_s = self.heard_at + agents_patience_s(self.order.silence_s) - time.monotonic()
            await self.connect(max(0.0, left_s))

    async def close(self) -> None:
        """End the connection, once what was sent is written."""
        if self._link is not None:
            self._link.flush()
            self._link.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _CONNECT_S / 4)
            self._link.abort()
        await asyncio.sleep(_LOOK_S)  # what was aborted is closed then


async def dial(path: str, place: int, *, ends_on_term: bool = False) -> None:
    """Be the agent of a place of the allocation, for as long as its launcher lives.

    Args:
        path: the file of the :class:`DialOrder`, which may be completed later.
        place: its number.
        ends_on_term: SIGTERM ends it while it has no launcher; else it takes no notice.

    Raises:
        Ended: there is no launcher, or none any more.
        CancelledError: it was told to end before a launcher answered.
        Exception: what the service raised.
    """
    order = _read(path)
    name = os.environ.get(NAME_VARIABLE) or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    caller = Caller(order, {"role": AGENT, "place": place, "name": name, "pid": os.getpid()})
    with importing():
        service: Service = importlib.import_module(order.entry).serve(caller)
    caller.session.on_full = service.pause_output
    done = asyncio.get_running_loop().create_future()
    has_launcher = False

    async def keep() -> None:
        patience_s = max(_FIRST_CALL_S, order.silence_s)
        caller.order = await _completed(path, patience_s)
        await caller.connect(patience_s)
        await caller.keep()

    keeping = asyncio.ensure_future(keep())

    def on_message(kind: str, *arguments: Any) -> None:
        nonlocal has_launcher
        has_launcher = True
        if done.done():
            return
        if kind == BYE:
            done.set_result(None)
            return
        try:
            if kind == UNREADABLE:
                raise arguments[0]  # noqa: TRY301 - as if its use had raised it
            service.handle(kind, *arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is this agent's end
            done.set_exception(error)

    caller.on_message = on_message
    if ends_on_term:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: has_launcher or keeping.cancel())
    try:
        await asyncio.wait([keeping, done], return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            done.result()
        else:
            keeping.result()
    finally:
        keeping.cancel()
        service.close()
        await caller.close()


def _read(path: str) -> DialOrder:
    """The order, as it is now.

    Raises:
        Ended: the launcher took it away when it ended.
    """
    try:
        return DialOrder.read(path)
    except FileNotFoundError:
        raise Ended("the launcher is gone") from None


async def _completed(path: str, patience_s: float) -> DialOrder:
    """The order, once the launcher listens.

    Raises:
        Ended: it does not, or is gone.
    """
    until, pause_s = time.monotonic() + patience_s, _FIRST_LOOK_S
    while True:
        order = _read(path)
        if order.addresses:
            return order
        if time.monotonic() > until:
            raise Ended(f"no launcher listened for {patience_s:g} s")
        await asyncio.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _AGAIN_S)


def main(order: str, place: str) -> None:
    """Be an agent.

    Args:
        order: the file of its :class:`DialOrder`.
        place: its number in the allocation; or the sum of a number and a variable of the environment, as in
            ``3+SLURM_NODEID``.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the launcher, and only then
    at = sum(int(part) if part.isdigit() else int(os.environ[part]) for part in place.split("+"))
    try:
        asyncio.run(dial(order, at))
    except Ended as end:
        print(f"kourou agent {at}: {end}", file=sys.stderr)  # noqa: T201 - its log is all it has
    except BaseException:  # noqa: BLE001 - it is told in its log
        traceback.print_exc()
        sys.exit(1)
