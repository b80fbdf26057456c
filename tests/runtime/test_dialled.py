"""Agents that call: let in by the token, served by one thread, back after a cut, refused once they were given up."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kourou import errors
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.host_agent import dialling
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.dialling import AGENT, Caller, Ended, dial
from kourou.runtime.launchers.dialled import transport as transport_module
from kourou.runtime.launchers.dialled.coordinator_tunnel import CoordinatorTunnel
from kourou.runtime.launchers.dialled.server import AgentServer
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

SILENCE_S = 2.0


class Events:
    """Implements TransportEvents."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []
        self.lost: list[errors.KourouError] = []

    def on_message(self, kind: str, *arguments: Any) -> None:
        self.messages.append((kind, *arguments))

    def has(self, *message: Any) -> bool:
        return message in self.messages

    def have(self, count: int) -> bool:
        return len(self.messages) >= count

    def on_lost(self, error: errors.KourouError) -> None:
        self.lost.append(error)

    def on_full(self, full: bool) -> None:
        del full


class Proxy:
    """Bytes between agents and the launcher, until they are cut; each connection then ends for both."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.calls = 0
        self.shut = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            if self.shut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self.open += [near, far]
            for pair in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=pair))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(WAIT_S)
        for end in self.open:
            end.close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(authority: Authority) -> Iterator[AgentServer]:
    serving = AgentServer(DialOrder(token="open", silence_s=SILENCE_S), authority, address="127.0.0.1")
    yield serving
    serving.hang_up()
    serving.close()


@pytest.fixture
def patient(authority: Authority) -> Iterator[AgentServer]:
    """Which nobody is lost to because the machine is busy."""
    serving = AgentServer(DialOrder(token="open", silence_s=60), authority, address="127.0.0.1")
    yield serving
    serving.hang_up()
    serving.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[DialOrder, int], threading.Thread]]:
    """Starts one, in a thread."""
    started: list[threading.Thread] = []

    def start(order: DialOrder, place: int) -> threading.Thread:
        path = tmp_path / f"{len(started)}.json"
        dataclasses.replace(order, entry="runtime.dialled_service").write(path)

        def be() -> None:
            with contextlib.suppress(Exception):
                asyncio.run(dial(str(path), place))

        started.append(threading.Thread(target=be, name=f"agent-{place}"))
        started[-1].start()
        return started[-1]

    yield start
    for thread in started:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_agents_are_served_by_one_thread_and_end_when_they_are_told_to(
    patient: AgentServer, agent: Callable[..., threading.Thread]
) -> None:
    # Given some that call before they are expected, and some after
    events = [Events() for _ in range(8)]
    order = patient.order
    for place in range(4):
        agent(order, place)
    threads = threading.active_count()
    transports = [patient.expect(place, each, WAIT_S) for place, each in enumerate(events)]
    for place in range(4, 8):
        agent(order, place)
    # When all are told much, and one of them far more
    for place, transport in enumerate(transports):
        transport.send("to", place)
    transports[0].send_late("bulk", bytes(30_000_000))
    transports[0].send_first("first")
    # Then each answers what it was told
    for place, each in enumerate(events):
        until(partial(each.has, "echo", "to", place), WAIT_S)
    until(lambda: len(events[0].messages) == 3, WAIT_S)
    (bulk,) = (rest for _, kind, *rest in events[0].messages if kind == "bulk")  # which may well have come first
    assert len(bulk[0]) == 30_000_000
    assert threading.active_count() == threads + 4  # the agents, which are threads here
    for transport in transports:
        transport.close()
    assert not any(each.lost for each in events)


def test_after_a_cut_nothing_is_lost_and_nothing_told_twice(
    server: AgentServer, agent: Callable[..., threading.Thread]
) -> None:
    # Given
    events = Events()
    order = server.order
    proxy = Proxy(order.addresses[0])
    transport = server.expect(0, events, WAIT_S)
    agent(dataclasses.replace(order, addresses=(("127.0.0.1", proxy.port),)), 0)
    # When the connection is cut again and again, while both ends speak
    for number in range(300):
        transport.send("number", number, b"x" * 20_000)
        if number % 50 == 49:
            until(partial(events.have, number - 40), WAIT_S)
            proxy.cut()
    # Then
    until(lambda: len(events.messages) == 300, WAIT_S)
    assert [message[2] for message in events.messages] == list(range(300))
    assert proxy.calls > 3
    assert not events.lost
    transport.close()
    proxy.close()


def test_one_that_stays_away_is_lost_and_not_let_in_again(
    server: AgentServer, agent: Callable[..., threading.Thread]
) -> None:
    # Given
    events = Events()
    order = server.order
    proxy = Proxy(order.addresses[0])
    server.expect(0, events, WAIT_S).send("hello")
    thread = agent(dataclasses.replace(order, addresses=(("127.0.0.1", proxy.port),)), 0)
    until(lambda: events.messages, WAIT_S)
    # When
    proxy.shut = True
    proxy.cut()
    # Then the agent has ended by the time that it is given up
    until(lambda: events.lost, WAIT_S)
    assert "was not heard of for 2 s" in str(events.lost[0])
    thread.join(1.0)
    assert not thread.is_alive()
    # and another one takes its place
    again = Events()
    transport = server.expect(0, again, WAIT_S)
    transport.send("hello")
    agent(order, 0)
    until(lambda: again.messages, WAIT_S)
    assert len(events.lost) == 1
    transport.close()
    proxy.close()


def test_an_agent_whose_launcher_died_does_not_wait_for_its_silence(
    authority: Authority, agent: Callable[..., threading.Thread]
) -> None:
    # Given
    serving = AgentServer(DialOrder(token="open", silence_s=100), authority, address="127.0.0.1")
    events = Events()
    # and an address that leads nowhere
    order = dataclasses.replace(serving.order, addresses=(("127.0.0.1", 1), *serving.order.addresses))
    serving.expect(0, events, WAIT_S).send("hello")
    thread = agent(order, 0)
    until(lambda: events.have(1), WAIT_S)
    # When its port is closed without a word
    serving.close()
    # Then
    thread.join(WAIT_S)
    assert not thread.is_alive()


class Data:
    """What a message refers to."""


def test_one_that_never_calls_is_lost_in_time_and_what_it_was_to_be_told_is_let_go(server: AgentServer) -> None:
    # Given
    events, data = Events(), [Data(), Data()]
    refers = [weakref.ref(each) for each in data]
    transport = server.expect(3, events, 0.1)
    transport.send_late("data", data.pop())
    # When
    until(lambda: events.lost, WAIT_S)
    transport.send_late("data", data.pop())
    # Then
    assert "host 3: its agent did not call in time" in str(events.lost[0])
    assert [ref() for ref in refers] == [None, None]


def test_strangers_are_not_let_in(server: AgentServer, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    # Given callers who know the authority and guess the token, or send anything
    events = Events()
    server.expect(0, events, WAIT_S)
    order = server.order
    guess = b'{"token": "%s", "role": "agent", "place": 0, "session": "s", "heard": 0}\n'
    for words in (guess % b"guess", guess % rb"\ud800", b"\x80" * 5000, b"[" * 4000 + b"\n"):
        context = ssl.create_default_context(cadata=order.authority)
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        with (
            socket.create_connection(order.addresses[0]) as plain,
            context.wrap_socket(plain, server_hostname="launcher.kourou") as connection,
        ):
            connection.settimeout(WAIT_S)
            # When
            connection.sendall(words)
            # Then
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert connection.recv(1) == b""
    assert not events.messages
    assert not caplog.records  # nor do they fill the log
    # and one who does not know the authority does not speak with anybody who only says to be the launcher
    with (
        socket.create_connection(order.addresses[0]) as plain,
        pytest.raises(ssl.SSLError),
        ssl.create_default_context(cadata=Authority().certificate.decode()).wrap_socket(
            plain, server_hostname="launcher.kourou"
        ),
    ):
        pass


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_flood_of_strangers_keeps_nobody_out(
    server: AgentServer, agent: Callable[..., threading.Thread], caplog: pytest.LogCaptureFixture
) -> None:
    # Given more callers than there is room for, who say nothing, or begin to shake hands and go no further
    order = server.order
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(socket.create_connection(order.addresses[0])) for _ in range(300)]
        for each in flood[::2]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        # When an agent calls, from the same address
        events = Events()
        transport = server.expect(0, events, WAIT_S)
        transport.send("hello")
        agent(order, 0)
        # Then it is let in, and the launcher holds few of the others
        until(lambda: events.messages, WAIT_S)
        until(lambda: sum(map(is_closed, flood)) >= 300 - 128, WAIT_S)
        transport.close()
    assert not caplog.records


def test_an_engine_that_takes_long_to_say_something_holds_up_no_other_agent(authority: Authority) -> None:
    # Given an engine that is asked what became of a host, and does not answer
    asked, answers, events = threading.Event(), threading.Event(), Events()

    def words() -> str:
        asked.set()
        assert answers.wait(WAIT_S)
        return "at last"

    server = AgentServer(DialOrder(token="open", silence_s=60), authority, address="127.0.0.1", words=words)
    transport = server.expect(0, events, 0.0)
    assert asked.wait(WAIT_S)
    # When, then: the loop that serves all agents goes on
    served = threading.Event()
    server.thread.post(served.set)
    is_served = served.wait(10.0)
    answers.set()
    assert is_served
    until(lambda: bool(events.lost), WAIT_S)
    assert "did not call in time; it was said:\nat last" in str(events.lost[0])
    transport.close()
    server.close()


def test_a_loss_is_told_though_its_engine_cannot_be_asked(authority: Authority) -> None:
    def words() -> str:
        raise OSError("too many open files")

    events = Events()
    server = AgentServer(DialOrder(token="open", silence_s=60), authority, address="127.0.0.1", words=words)
    transport = server.expect(0, events, 0.0)
    until(lambda: bool(events.lost), WAIT_S)
    assert "what its engine said is not known: OSError: too many open files" in str(events.lost[0])
    transport.close()
    server.close()


def test_one_whose_message_cannot_be_used_is_lost_at_once(
    server: AgentServer, agent: Callable[..., threading.Thread]
) -> None:
    class Refusing(Events):
        def on_message(self, kind: str, *arguments: Any) -> None:
            raise LookupError(f"no {kind}")

    events = Refusing()
    transport = server.expect(0, events, WAIT_S)
    agent(server.order, 0)
    transport.send("work", 1)
    until(lambda: bool(events.lost), WAIT_S)
    assert "echo: LookupError: no echo" in str(events.lost[0])


def test_an_agent_and_its_launcher_end_over_what_they_cannot_unpickle(
    patient: AgentServer, agent: Callable[..., threading.Thread]
) -> None:
    # Given agents of another version: one that does not know what it is told, and one that tells what is not known here
    events = [Events(), Events()]
    transports = [patient.expect(place, each, WAIT_S) for place, each in enumerate(events)]
    thread = agent(patient.order, 0)
    agent(patient.order, 1)
    # When
    transports[0].send("work", NotHere())
    transports[1].send("work", Echoed())
    # Then they do not tell each other the same again and again
    thread.join(WAIT_S)
    assert not thread.is_alive()
    until(lambda: bool(events[1].lost), WAIT_S)
    assert "unreadable: ModuleNotFoundError: no such version" in str(events[1].lost[0])


def missing() -> None:
    raise ModuleNotFoundError("no such version")


class NotHere:
    def __reduce__(self) -> tuple[Any, ...]:
        return missing, ()


class Echoed:
    """What an agent sends back as something else."""

    def __reduce__(self) -> tuple[Any, ...]:
        return NotHere, ()


def caller_of(order: DialOrder, place: int = 0) -> Caller:
    return Caller(order, {"role": AGENT, "place": place, "name": "early", "pid": 0})


def test_an_agent_that_begins_when_its_run_is_over_ends_as_others_do(tmp_path: Path) -> None:
    with pytest.raises(Ended, match="the launcher is gone"):
        asyncio.run(dial(str(tmp_path / "dial.json"), 0))


def test_one_that_calls_before_it_is_expected_is_answered_and_stays(patient: AgentServer) -> None:
    events = Events()

    async def be() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        caller = caller_of(patient.order)
        caller.on_message = lambda *message: came.put_nowait(message)
        # Given one that nobody expects: it has a launcher
        await caller.connect(WAIT_S)
        holding = asyncio.ensure_future(caller.hold())
        # When it is wanted, then it is there
        transport = patient.expect(0, events, WAIT_S)
        transport.send("hello")
        assert await asyncio.wait_for(came.get(), WAIT_S) == ("hello",)
        caller.send("answer")
        await asyncio.to_thread(until, lambda: events.messages, WAIT_S)
        assert not holding.done()
        holding.cancel()
        await caller.close()

    asyncio.run(be())
    assert events.messages == [("answer",)]


def test_of_two_that_call_early_for_one_place_the_first_is_sent_away(patient: AgentServer) -> None:
    async def be() -> None:
        first, second = caller_of(patient.order), caller_of(patient.order)
        await first.connect(WAIT_S)
        await second.connect(WAIT_S)
        with pytest.raises(Ended, match="refuses"):
            await asyncio.wait_for(first.keep(), WAIT_S)
        await first.close()
        # and who is not needed in the end is told so
        told = asyncio.get_running_loop().create_future()
        second.on_message = told.set_result
        patient.hang_up()
        await second.close()

    asyncio.run(be())


def test_a_connection_that_was_given_up_does_not_end_the_next_one(patient: AgentServer) -> None:
    async def be() -> None:
        caller = caller_of(patient.order)
        came = asyncio.get_running_loop().create_future()
        caller.on_message = lambda *message: came.set_result(message)
        await caller.connect(WAIT_S)
        # Given a connection that has fallen silent
        assert caller._link is not None
        caller.heard_at = caller._link.heard_at = float("-inf")
        await caller.hold()
        # When there is another one
        await caller.connect(WAIT_S)
        # Then that is held
        holding = asyncio.ensure_future(caller.hold())
        patient.expect(0, Events(), WAIT_S).send("hello")
        assert await asyncio.wait_for(came, WAIT_S) == ("hello",)
        assert not holding.done()
        holding.cancel()
        await caller.close()

    asyncio.run(be())


def test_a_call_that_is_given_up_leaves_no_connection(authority: Authority) -> None:
    async def be() -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            seen.put_nowait("a call")
            await reader.read()
            seen.put_nowait("its end")
            writer.close()

        context = authority.issue("launcher.kourou").make_context()
        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0, ssl=context) as server:
            order = DialOrder(
                addresses=(server.sockets[0].getsockname(),),
                authority=authority.certificate.decode(),
                token="open",
                silence_s=60,
            )
            calling = asyncio.ensure_future(caller_of(order).connect(WAIT_S))
            assert await asyncio.wait_for(seen.get(), WAIT_S) == "a call"
            # When
            calling.cancel()
            # Then
            assert await asyncio.wait_for(seen.get(), WAIT_S) == "its end"

    asyncio.run(be())


def test_an_agent_waits_for_no_answer_longer_than_it_may_live(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "_CONNECT_S", 1000.0)

    async def be() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:  # it does not even shake hands
            order = DialOrder(
                addresses=(mute.getsockname(),), authority=authority.certificate.decode(), token="open", silence_s=60
            )
            with pytest.raises(Ended, match="no launcher answered"):
                await asyncio.wait_for(caller_of(order).connect(0.1), WAIT_S)

    asyncio.run(be())


def test_many_that_do_not_end_are_waited_for_no_longer_than_one(
    patient: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(transport_module, "time", SimpleNamespace(monotonic=lambda: now))

    def wait(timeout_s: float) -> bool:
        nonlocal now
        now += timeout_s
        return False

    transports = [patient.expect(place, Events(), WAIT_S) for place in range(5)]
    patient.thread.call(lambda: None)  # they are known
    for transport in transports:
        monkeypatch.setattr(transport, "_gone", SimpleNamespace(wait=wait, set=lambda: None))
    patient.hang_up()
    for transport in transports:
        transport.close()
    assert now == 1005.0


def test_a_shell_that_does_not_get_through_leaves_nothing(tmp_path: Path) -> None:
    order = DialOrder(addresses=(("127.0.0.1", 1),), authority="-----BEGIN NONSENSE", token="open", silence_s=60)
    order.write(tmp_path / ORDER_FILE)
    with pytest.raises(ssl.SSLError):
        CoordinatorTunnel(tmp_path)


def test_nor_does_one_that_nobody_here_could_reach_it_by(
    patient: AgentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a launcher that lets a shell in
    def refuse(*_: object, **__: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr("kourou.runtime.launchers.dialled.coordinator_tunnel.Tunnel", refuse)
    patient.order.write(tmp_path / ORDER_FILE)
    # When, then
    with pytest.raises(OSError, match="too many open files"):
        CoordinatorTunnel(tmp_path)


def test_a_shell_whose_way_breaks_gets_a_new_one_and_hears_when_there_is_none(
    authority: Authority, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as coordinator:
        coordinator.settimeout(WAIT_S)
        server = AgentServer(
            DialOrder(token="open", silence_s=SILENCE_S),
            authority,
            address="127.0.0.1",
            coordinator=coordinator.getsockname(),
        )
        order = server.order
        proxy = Proxy(order.addresses[0])
        dataclasses.replace(order, addresses=(("127.0.0.1", proxy.port),)).write(tmp_path / ORDER_FILE)
        tunnel = CoordinatorTunnel(tmp_path)
        try:
            for _ in range(2):
                # Given a call, which is answered
                with socket.socket(socket.AF_UNIX) as call:
                    call.settimeout(WAIT_S)
                    call.connect(tunnel.address.removeprefix("unix:"))
                    call.sendall(b"question")
                    answering, _ = coordinator.accept()
                    with answering:
                        answering.settimeout(WAIT_S)
                        assert answering.recv(100) == b"question"
                        answering.sendall(b"answer")
                        assert call.recv(100) == b"answer"
                        # When the way breaks, then both ends hear of it, and the next call finds another one
                        proxy.cut()
                        assert call.recv(100) == b""
                        assert answering.recv(100) == b""
            # When the launcher is gone, then nobody waits for it
            with socket.socket(socket.AF_UNIX) as call:
                call.settimeout(WAIT_S)
                call.connect(tunnel.address.removeprefix("unix:"))
                with coordinator.accept()[0]:
                    proxy.shut = True
                    server.close()
                    assert call.recv(100) == b""
        finally:
            tunnel.close()
            proxy.close()
            server.close()


def test_who_waits_for_room_is_let_go_when_the_agent_is_lost_and_fills_no_memory(patient: AgentServer) -> None:
    # Given an agent that is to be told much, and has not called yet
    transport = patient.expect(0, Events(), WAIT_S)
    while not transport._session._full:
        transport.send("line", b"x" * 1_000_000)

    def send() -> None:
        for _ in range(100):
            transport.send_bulk("piece", b"x" * 1_000_000)

    bulk = threading.Thread(target=send)
    bulk.start()
    # When
    patient.thread.call(lambda: transport.lose("it is gone"))
    # Then
    bulk.join(WAIT_S)
    assert not bulk.is_alive()
    assert transport._session._queued_bytes < 20_000_000
