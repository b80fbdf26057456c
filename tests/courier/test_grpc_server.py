"""The gRPC lane's server and clients that are not ours, or do not do what ours do."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import time
from collections import deque
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hpack import Encoder

from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.courier.lanes.grpc.channel import Channel
from kourou.courier.lanes.http2.control import (
    END_HEADERS,
    END_STREAM,
    PREFACE,
    WORD,
    FrameType,
    make_http2_frame,
    make_settings,
)
from kourou.courier.lanes.http2.packets import PacketReader, message_head, plain_message
from kourou.courier.lanes.loop import acceptor, event_loop
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Frame, FrameParser, Kind, pack
from kourou.errors import SerializationError
from kourou.proto.v1 import courier_pb2
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

_INITIAL_WINDOW = 4  # the number of the setting
SERVING = health_pb2.HealthCheckResponse.SERVING


class Learner:
    """What is called."""

    def __init__(self):
        self.weights = np.ones(6 << 20, np.uint8)
        self.go_on = threading.Event()

    def large(self):
        return self.weights

    def slow(self):
        self.go_on.wait(20)
        return "done"

    def echo(self, value):
        return value


@pytest.fixture
def learner():
    return Learner()


@pytest.fixture
def server(learner, no_leaks):
    with Server(token=new_token()) as server:
        server.bind_object(learner)
        yield server


def call_frame(method, *args, call_id=1):
    body, buffers = codec.encode_call(args, {}, method)
    return b"".join(pack(Frame(Kind.CALL, call_id, 0.0, method, body, buffers)))


def packet(contents):
    return courier_pb2.Packet(frames=contents).SerializeToString()


def frames_of(messages):
    parser = FrameParser()
    return [frame for message in messages for frame in parser.feed(courier_pb2.Packet.FromString(message).frames)]


class Reluctant:
    """A client that speaks as ours does, but reads only when it is told to."""

    def __init__(self, server, window=None):
        self._channel = Channel("/kourou.v1.Courier/Connect", server.address, ("kourou-token", server.token), 10)
        self._channel.open()
        if window is not None:
            self._channel.socket.send([make_settings((_INITIAL_WINDOW, window))])  # changes what it said before
        self.port = str(self._channel.socket._socket.getsockname()[1])
        self._parser, self._packets = FrameParser(), PacketReader()
        self._frames: deque[Frame] = deque()
        while not self._packets.messages:
            self._feed()

    def send(self, frame):
        for buffer in self._channel.http2.frames(deque([message_head(len(frame)), frame])):
            self._channel.socket.send([buffer])

    def open(self, more):
        """Grant a larger window."""
        self._channel.socket.send([make_http2_frame(FrameType.WINDOW, 0, 1, WORD.pack(more))])

    def answer(self):
        """The next frame."""
        while not self._frames:
            self._frames.extend(self._feed())
        return self._frames.popleft()

    def close(self):
        self._channel.socket.close()

    def _feed(self):
        return [
            frame
            for piece in self._channel.receive()
            for contents in self._packets.feed(piece)
            for frame in self._parser.feed(contents)
        ]


def test_grpcs_own_client_may_call_and_read_as_slowly_as_its_windows_say(server):
    # Given a client of another make, with windows of 64 KiB
    with grpc.insecure_channel(server.address) as channel:
        connect: Any = channel.stream_stream("/kourou.v1.Courier/Connect")
        # When it calls a method with a large answer, and says that it has no more to say
        calls = iter([packet(call_frame("large")), packet(call_frame("echo", 5, call_id=2))])
        messages = connect(calls, metadata=(("kourou-token", server.token),), timeout=30)
        found = {frame.call_id: frame for frame in frames_of(messages)}
    # Then it has its answers, and after them the end
    assert messages.code() is grpc.StatusCode.OK
    assert {call_id: frame.kind for call_id, frame in found.items()} == {1: Kind.RESULT, 2: Kind.RESULT}
    assert codec.decode(found[1].body, found[1].buffers).sum() == 6 << 20


def test_a_call_that_takes_its_time_is_answered_before_the_end(server, learner):
    with grpc.insecure_channel(server.address) as channel:
        connect: Any = channel.stream_stream("/kourou.v1.Courier/Connect")
        messages = connect(iter([packet(call_frame("slow"))]), metadata=(("kourou-token", server.token),), timeout=30)
        until(lambda: server.metrics()["slow"].in_flight == 1, 10)
        learner.go_on.set()
        (frame,) = frames_of(messages)
    assert codec.decode(frame.body, frame.buffers) == "done"


def test_one_port_has_the_standard_services_and_the_lane_in_any_order(server):
    # Given one channel of gRPC's own client
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        connect: Any = channel.stream_stream("/kourou.v1.Courier/Connect")
        describe: Any = channel.unary_unary("/kourou.v1.Courier/Describe")
        token = (("kourou-token", server.token),)
        # When it uses first the lane and then the services
        greeting = next(connect(iter([]), metadata=token, timeout=20))
        for _ in range(3):
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == SERVING
        said = courier_pb2.Description.FromString(describe(b"", metadata=token, timeout=20))
        # Then it gets all of them; but the lane has to come first
        assert greeting == b""
        assert said.server_id == server.endpoint.server_id
        with pytest.raises(grpc.RpcError, match="first call of a connection"):
            next(connect(iter([]), metadata=token, timeout=20))


@pytest.mark.parametrize(
    "nonsense", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500]
)
def test_what_is_no_grpc_is_cut_off_or_left_to_grpcio(server, nonsense):
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as stranger:
        stranger.sendall(nonsense)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(65536):
            pass
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as client:
        assert client.echo(1) == 1


def test_what_a_handler_returned_may_change_while_a_slow_client_reads(server, learner):
    # Given a client that has asked for something large, and does not read
    client = Reluctant(server)
    client.send(call_frame("large"))
    # When the handler's own memory changes, as soon as it has returned
    until(lambda: server.metrics()["large"].calls == 1, 10)
    learner.weights[:] = 2
    # Then the client gets what was returned
    frame = client.answer()
    assert (codec.decode(frame.body, frame.buffers) == 1).all()
    client.close()


def test_clients_that_do_not_read_hold_up_nobody_else(server, learner):
    # Given clients that ask for more than is kept for them, one after the other, and read nothing
    clients = [Reluctant(server) for _ in range(3)]
    for number in range(12):
        for client in clients:
            client.send(call_frame("large", call_id=number + 1))
    until(lambda: server.metrics()["large"].calls >= 6, 20)  # then no more is read, for there is much to be taken
    # When others call
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as other:
        assert [other.echo(number) for number in range(100)] == list(range(100))
        assert other.large().size == learner.weights.size
        # Then they are served; and so are those who read after all
        kinds = [clients[0].answer().kind for _ in range(12)]
        assert kinds == [Kind.RESULT] * 12
        # And those who go leave nothing behind
        for client in clients:
            client.close()
        until(lambda: server.metrics()["large"].in_flight == 0, 20)
        until(lambda: len(server._event_loop._connections) <= 2, 20)


def test_a_server_stops_though_a_client_does_not_read():
    with Server(token=new_token()) as server:
        server.bind_object(Learner())
        client = Reluctant(server)
        for number in range(20):
            client.send(call_frame("large", call_id=number + 1))
        until(lambda: server.metrics()["large"].calls >= 2, 20)
    client.close()


def test_nothing_is_lost_though_a_client_has_no_more_to_say_while_its_calls_run(server):
    # Given a method that the pool runs, and that fails
    def fail():
        time.sleep(0.003)
        raise ValueError("no")

    server.bind("fail", fail)
    # When a client makes four calls and ends its half of the stream, many times
    with grpc.insecure_channel(server.address) as channel:
        connect: Any = channel.stream_stream("/kourou.v1.Courier/Connect")
        for _ in range(40):
            calls = iter([packet(call_frame("fail", call_id=number)) for number in range(1, 5)])
            messages = connect(calls, metadata=(("kourou-token", server.token),), timeout=30)
            # Then each is answered, and then comes the end
            assert sorted(frame.call_id for frame in frames_of(messages)) == [1, 2, 3, 4]
            assert messages.code() is grpc.StatusCode.OK


class Foreign:
    """A client of another make: its own encoder and its own numbers."""

    def __init__(self, server, stream, encoder):
        host, _, port = server.address.rpartition(":")
        self.connection = socket.create_connection((host, int(port)), 20)
        self._stream = stream
        self._encoder = encoder

    def call(self, method, message, *metadata, then=b""):
        """Make it, and wait until ``then`` is heard."""
        names = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x")]
        headers = self._encoder.encode([*names, ("te", "trailers"), ("content-type", "application/grpc"), *metadata])
        begin = make_http2_frame(FrameType.HEADERS, END_HEADERS, self._stream, headers)
        self.connection.sendall(PREFACE + make_settings() + begin)
        self.connection.sendall(make_http2_frame(FrameType.DATA, END_STREAM, self._stream, message))
        heard = b""
        while then not in heard:
            piece = self.connection.recv(65536)
            assert piece
            heard += piece
        return heard


def test_a_first_call_of_another_number_is_left_to_grpcio(server):
    # Given a client whose first stream is the third, as some makes have it
    client = Foreign(server, 3, Encoder())
    with client.connection:
        # When it asks for the server's health, then it hears that it is well
        client.call("/grpc.health.v1.Health/Check", plain_message(b""), then=b"grpc-status\x010")


@pytest.mark.parametrize("table_bytes", [0, 4096])
@pytest.mark.parametrize("stream", [1, 3, 15])
def test_a_client_of_any_make_may_connect_as_its_first_call(server, stream, table_bytes):
    # Given a client that compresses its headers as much as it may, whatever the number of its first stream
    encoder = Encoder()
    encoder.header_table_size = table_bytes
    client = Foreign(server, stream, encoder)
    twice = [("user-agent", "of another make"), ("user-agent", "of another make")]
    with client.connection:
        # When it connects and makes a call
        contents = packet(call_frame("echo", "found"))
        message = len(contents).to_bytes(5, "big") + contents
        heard = client.call(
            "/kourou.v1.Courier/Connect", message, *twice, ("kourou-token", server.token), then=b"found"
        )
        # Then it is answered on that stream, and no other call was passed on
        assert make_http2_frame(FrameType.GOAWAY, 0, 0, WORD.pack(stream) + WORD.pack(0)) in heard
        until(lambda: server.metrics()["echo"].calls == 1, 10)


def test_a_block_that_makes_no_sense_is_left_to_grpcio_and_hurts_nobody(server):
    class Broken:
        def encode(self, headers):
            return Encoder().encode(headers) + b"\xff\xff\xff\xff\xff\xff"

    client = Foreign(server, 1, Broken())
    with client.connection, contextlib.suppress(ConnectionError):
        client.call("/kourou.v1.Courier/Connect", plain_message(b""), ("kourou-token", server.token))
        while client.connection.recv(65536):
            pass
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as other:
        assert other.echo(1) == 1


def test_no_log_shows_the_token(server, caplog):
    with caplog.at_level(logging.DEBUG), Client(server.address, token=server.token, lane="grpc") as client:
        assert client.echo(1) == 1
    assert server.token not in caplog.text


def test_a_client_that_grants_no_window_is_left_waiting(server, learner):
    # Given a client with a small window, which it never opens again
    small = Reluctant(server, window=100)
    for number in range(40):
        small.send(call_frame("large", call_id=number + 1))
    # When much waits for it, then none of its further calls begins
    until(lambda: server.metrics()["large"].calls >= 2, 20)
    (connection,) = [one for one in server._event_loop._connections.values() if one.session is not None]
    until(lambda: connection.is_congested, 20)
    calls = server.metrics()["large"].calls
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as other:
        assert [other.echo(number) for number in range(50)] == list(range(50))
    assert server.metrics()["large"].calls <= calls + 16
    # And when it opens its window after all, then it has all its answers
    small.open(1 << 30)
    assert [small.answer().kind for _ in range(40)] == [Kind.RESULT] * 40
    small.close()


def test_a_result_of_too_many_arrays_is_its_callers_error_only(server, monkeypatch):
    monkeypatch.setattr(codec, "MOST_BUFFERS", 10)
    server.bind("many", lambda: [np.zeros(1 << 14) for _ in range(10)])
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as client:
        with pytest.raises(SerializationError, match="stack them"):
            client.many()
        assert client.echo(1) == 1


def test_an_error_of_ours_costs_one_connection_only(server, monkeypatch, caplog):
    # Given a client, and another one whose connection will not work
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as client:
        assert client.echo(1) == 1
        broken = Reluctant(server)
        (connection,) = [one for one in server._event_loop._connections.values() if one._address.endswith(broken.port)]
        monkeypatch.setattr(connection._reader, "read", lambda: 1 // 0)
        # When it is to be read
        with contextlib.suppress(ConnectionError):  # it may have been, of what was said before
            broken.send(call_frame("echo", 1))
        # Then it is closed, which is logged, and the server serves on
        until(lambda: connection._sender._closed, 10)
        assert "a connection was closed" in caplog.text
        assert client.echo(2) == 2
        broken.close()


def test_clients_that_say_nothing_are_sent_away_though_others_come_and_go(monkeypatch):
    monkeypatch.setattr(acceptor, "_GREETING_TIMEOUT_S", 0.2)
    monkeypatch.setattr(event_loop, "_HOUSEKEEPING_S", 0.1)
    with Server(token="t") as server:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), 20) as stranger:
            stranger.setblocking(False)

            def is_sent_away():
                socket.create_connection((host, int(port)), 20).close()
                try:
                    return stranger.recv(1) == b""
                except BlockingIOError:
                    return False

            until(is_sent_away, 20)


def test_a_server_without_descriptors_serves_on_and_accepts_when_there_are_some(server, monkeypatch, caplog):
    # Given a server that has no descriptors left for new connections
    client = Client(server.address, token=server.token, lane="grpc", timeout_s=20)
    assert client.echo(1) == 1
    acceptors = server._event_loop._acceptors.values()
    acceptor = next(each for each in acceptors if each.listener.family == socket.AF_INET)
    listener = acceptor.listener
    refusals = []

    class Exhausted:
        family = listener.family

        def accept(self):
            refusals.append(time.monotonic())
            if len(refusals) < 4:
                raise OSError(errno.EMFILE, "Too many open files")
            return listener.accept()

        def __getattr__(self, name):
            return getattr(listener, name)

    acceptor.listener = Exhausted()
    # When somebody connects
    other = Client(server.address, token=server.token, lane="grpc", timeout_s=20)
    # Then those who are connected are served, and the other one is as soon as there is room; nothing spins meanwhile
    assert client.echo(2) == 2
    assert other.echo(3) == 3
    assert refusals[3] - refusals[0] > 0.2
    # And that is told once, since those who wait do not know for what
    (told,) = (record.getMessage() for record in caplog.records if "no more connections" in record.getMessage())
    assert "`ulimit -n` allows up to" in told
    courier.close(client)
    courier.close(other)
