"""Whoever is interrupted while it sends, or has no memory for it: nobody reads nonsense then, or waits for ever."""

from __future__ import annotations

import errno
import os
import select
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.courier.calling.transport import NotSentError
from kourou.courier.lanes.grpc.answer_sender import AnswerSender
from kourou.courier.lanes.http2 import packet_writer, tcp
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.lanes.http2.server import Http2Service
from kourou.courier.lanes.local import arena, socket_file
from kourou.courier.lanes.local.arena import SMALLEST_BLOCK, Arena
from kourou.courier.lanes.local.client import LocalTransport
from kourou.courier.lanes.local.connection import LocalConnection
from kourou.courier.lanes.local.shared_memory import Memory
from kourou.courier.lanes.loop.poller import new_poller
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.wire.frames import Frame, Kind, pack
from kourou.errors import CallCancelled, ProtocolError, SerializationError
from polling import WAIT_S, closed_by_peer, until

LARGE_ITEMS = 1 << 19  # of an array whose bulk lies in shared memory
LARGE = b"x" * (4 << 20)  # more than a socket takes
SMALL = Frame(Kind.CALL, 2, 0.0, "next", b"")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class CtrlC:
    """A connection whose thread is interrupted when it takes in answers, since it finds no room to write."""

    def deliver(self, frames: object) -> None: ...

    def end(self, cause: Exception | None = None) -> None: ...

    def wake_background(self) -> None: ...

    def read_available(self) -> bool:
        raise KeyboardInterrupt


# -- the local lane, at a client's end -------------------------------------------------------------------------------


@pytest.mark.parametrize("queued", [False, True])
def test_a_write_that_ctrl_c_has_cut_off_ends_the_connection(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, queued: bool
) -> None:
    # Given a client without shared memory, and a server that says something and does not read
    monkeypatch.setenv("KOUROU_ARENA_BYTES", "0")
    ours, theirs = pair
    side, others_side = socket.socketpair()
    transport = LocalTransport(ours, side)
    transport.start(CtrlC())
    theirs.sendall(b"!")
    if queued:
        transport._outgoing.extend([LARGE[: 1 << 20]] * 4)
    # When Ctrl-C comes in the midst of a frame, be it this thread's or what others have queued
    with pytest.raises(KeyboardInterrupt):
        transport.send(Frame(Kind.CALL, 1, 0.0, "echo", b"", [LARGE]))
    # Then the next call is not taken for the rest of it, and who waits for an answer hears that there is none
    with pytest.raises(NotSentError):
        transport.send(SMALL)
    assert closed_by_peer(theirs)
    assert ours.recv(10) == b"!"
    assert ours.recv(10) == b""
    transport.close()
    others_side.close()


# -- the local lane, at a server's end -------------------------------------------------------------------------------


def local_connection(main: socket.socket) -> LocalConnection:
    poller = new_poller()
    poller.register(main.fileno(), select.POLLIN)
    return LocalConnection(main, poller, 0, Dispatcher(Server(token="t")._handlers, CallCancelled), b"t")


def test_answers_that_were_taken_to_be_sent_and_cannot_be_end_the_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    connection = local_connection(ours)
    nonsense: Any = 7
    side, of_client = socket.socketpair()
    connection.memory = Memory(side, connection._outgoing, lambda: None)
    connection._outgoing.extend([b"an answer", nonsense])
    with pytest.raises(TypeError):
        connection.flush()
    assert closed_by_peer(theirs)
    connection.close()
    of_client.close()


def test_a_greeting_with_what_is_no_socket_leaves_no_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    connection = local_connection(ours)
    with tempfile.TemporaryFile() as file:
        socket.send_fds(theirs, [b"KOUROU"], [file.fileno()])
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers are wanted, not paths
        with pytest.raises(ProtocolError, match="no socket"):
            connection.read_greeting()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - see above
    connection.close()


def test_what_a_client_passes_is_not_inherited_by_what_the_server_starts(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    socket.send_fds(theirs, [b"x"], [theirs.fileno()])
    data, descriptor = socket_file.receive_with_descriptor(ours, 10)
    assert data == b"x"
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


# -- shared memory ---------------------------------------------------------------------------------------------------


def test_a_copy_that_is_interrupted_leaves_no_block_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    blocks = Arena(lambda _: True, lambda _: None, 1 << 30)
    copies: deque[None] = deque([None])

    def fill(*_: object) -> None:
        try:
            copies.popleft()
        except IndexError:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(arena, "fill_all", fill)
    # When the second of two buffers is being copied
    with pytest.raises(KeyboardInterrupt):
        pack(Frame(Kind.CALL, 1, 0.0, "echo", b"", [bytes(SMALLEST_BLOCK)] * 2), blocks)
    # Then both places are free again
    assert [len(segment.lent) for segment in blocks._segments.values()] == [0]


def test_descriptors_that_nobody_takes_are_not_waited_for(tmp_path: Any) -> None:
    # Given a client whose server is busy
    listener, path = socket_file.listen(str(tmp_path))
    listener.setblocking(True)

    def welcome() -> None:
        with listener.accept()[0] as accepted:
            _, (taken,), _, _ = socket.recv_fds(accepted, 1 << 10, 1)
            accepted.sendall(socket_file.WELCOME)
            over.wait(WAIT_S)
            os.close(taken)

    over = threading.Event()
    thread = threading.Thread(target=welcome)
    thread.start()
    main, side = socket_file.greet(path, "t", WAIT_S)
    # When it has more to announce than the socket holds, then bulk goes another way at once
    assert not all(socket_file.send_descriptor(side, main.fileno()) for _ in range(10_000))
    over.set()
    thread.join(WAIT_S)
    for each in (main, side, listener):
        each.close()


def test_as_many_descriptors_on_their_way_as_a_user_may_have_end_no_connection() -> None:
    class Crowded:
        def sendmsg(self, *_: object) -> int:
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    crowded: Any = Crowded()
    assert not socket_file.send_descriptor(crowded, 0)


# -- the gRPC lane ---------------------------------------------------------------------------------------------------


class Interrupted(list[bytes]):
    """Parts of a frame of which only the first is taken."""

    def __iter__(self) -> Iterator[bytes]:
        yield from self[:1]
        raise KeyboardInterrupt


def service() -> Http2Service:
    made = Http2Service()
    made._granted_call = made._granted_whole = 1 << 30
    return made


def test_a_frame_that_was_taken_in_part_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    # Given a client to which an answer is being sent
    ours, theirs = pair
    poller = new_poller()
    poller.register(ours.fileno(), select.POLLIN)
    sender = AnswerSender(tcp.TcpSocket(ours), service(), poller, lambda: None)
    parts: Any = Interrupted([bytes(3 << 20), b"the rest"])
    # When its thread is interrupted as it takes the frame
    with pytest.raises(KeyboardInterrupt):
        sender._send_bulk(parts)
    sender.put(Frame(Kind.RESULT, 3))
    sender.flush()
    # Then the client does not take the next answer for the rest of this one
    theirs.setblocking(False)
    assert theirs.recv(1) == b""
    sender.close()


def test_what_could_not_be_kept_before_it_changed_is_not_sent(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_: object) -> bytes:
        raise MemoryError

    writer = PacketWriter(tcp.TcpSocket(pair[0]), service())
    writer.put([bytearray(LARGE)])
    assert not writer.torn
    monkeypatch.setattr(packet_writer, "bytes", no_room, raising=False)
    with pytest.raises(MemoryError):
        writer.copy_unsent()
    assert writer.torn


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_a_result_for_which_there_is_no_memory_is_an_error_of_its_call(
    lane: str, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    # Given a server that finds no memory for one answer
    token, short = new_token(), deque([None])

    def packs(frame: Frame, *blocks: Any) -> Any:
        if frame.kind == Kind.RESULT and short:
            short.popleft()
            raise MemoryError("no room")
        return pack(frame, *blocks)

    server = Server(token=token)
    server.bind("echo", lambda value: value)
    server.start()
    client = Client(server.address, token=token, lane=lane)
    monkeypatch.setattr("kourou.courier.lanes.local.connection.pack", packs)
    monkeypatch.setattr("kourou.courier.lanes.grpc.answer_sender.pack", packs)
    # When, then
    with pytest.raises(SerializationError, match="echo: its result could not be sent: MemoryError: no room"):
        client.echo(1)
    assert client.echo(2) == 2
    courier.close(client)
    server.stop()


# -- the local lane, after a connection's end ------------------------------------------------------------------------


def test_an_answer_to_a_client_that_has_gone_ends_whoever_gives_it(no_leaks: None) -> None:
    # Given a handler that has an array in its client's memory
    taken, gone, answered = threading.Event(), threading.Event(), threading.Event()

    def hold(value: Any) -> int:
        taken.set()
        assert gone.wait(WAIT_S)
        return len(value)

    with Server(token=new_token()) as server:
        server.bind("hold", hold)
        client = Client(server.address, token=server.token, lane="local")
        future = client.futures.hold(np.zeros(LARGE_ITEMS))
        assert taken.wait(WAIT_S)
        # When the client goes, and then the handler lets go of the array and answers
        courier.close(client)
        with pytest.raises(CallCancelled):
            future.result(WAIT_S)
        loop: Any = server._event_loop
        until(lambda: not loop._connections, WAIT_S, "the end of the connection")
        gone.set()
        # Then its thread has nothing left to do
        until(lambda: server.metrics()["hold"].in_flight == 0, WAIT_S, "the end of the call")
        loop.call_soon(answered.set)
        assert answered.wait(WAIT_S)
