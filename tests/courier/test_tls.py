"""The gRPC lane with certificates of a CA of one's own."""

from __future__ import annotations

import os
import pickle
import select
import socket
import ssl
import threading
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kourou import courier
from kourou.courier import AddressTarget, Client, Server
from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.lanes.grpc.channel import Channel
from kourou.courier.lanes.grpc.frame_reader import FrameReader
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Frame, Kind, pack
from kourou.errors import ServerUnavailable

pytestmark = pytest.mark.usefixtures("no_leaks")


class Authority:
    """A CA, and what it has signed for localhost."""

    def __init__(self):
        self._ca = trustme.CA()
        self.root = self._ca.cert_pem.bytes()

    def issue(self, name):
        """A private key and a certificate."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1", common_name=name)
        return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def identity(authority):
    return authority.issue("server")


def proving(identity, folder):
    """What a server proves itself with."""
    pem = folder / "server-identity.pem"
    pem.write_bytes(b"".join(identity))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def server(identity, tmp_path):
    with Server(token="t", tls=proving(identity, tmp_path)) as server:
        server.bind("echo", lambda value: value)
        yield server


@pytest.fixture(params=["segments as on loopback", "segments as on Ethernet"])
def segments(request, monkeypatch):
    """How much servers and their clients send at a time: they wait for bulk only where that is little."""
    listen = socket.create_server

    def of_ethernet(*args, **kwargs):
        listener = listen(*args, **kwargs)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        return listener

    if request.param == "segments as on Ethernet":
        monkeypatch.setattr(socket, "create_server", of_ethernet)
    return request.param


def address_of(server):
    """As a name, which certificates are about."""
    return f"localhost:{server.port}"


def test_a_client_with_the_root_certificate_is_served_and_can_be_copied(server, authority):
    # Given a server that speaks TLS, and a client that trusts its CA
    client = Client(address_of(server), lane="grpc", token="t", tls=authority.root, timeout_s=20)
    # When it calls, and a copy of it does
    copy = pickle.loads(pickle.dumps(client))
    # Then both are answered over the gRPC lane
    assert [client.echo(1), copy.echo(b"x" * 3_000_000)] == [1, b"x" * 3_000_000]
    assert courier.lane(client) == courier.lane(copy) == "grpc"
    courier.close(client)
    courier.close(copy)


def test_the_target_may_say_whom_to_trust(server, authority):
    # Given a target that brings the certificates
    client = Client(AddressTarget(address_of(server), "t", authority.root), lane="grpc", timeout_s=20)
    # When it is called, then it answers
    assert client.echo(2) == 2
    courier.close(client)


@pytest.mark.parametrize("trusted", [False, True], ids=["plain", "of another CA"])
def test_a_client_that_cannot_know_the_server_does_not_talk_to_it(server, trusted):
    # Given a client without certificates, or with those of somebody else
    tls = Authority().root if trusted else None
    client = Client(address_of(server), lane="grpc", token="t", tls=tls, wait_for_ready=False)
    # When it calls, then it says that there is no such server
    with pytest.raises(ServerUnavailable):
        client.echo(1)
    courier.close(client)


def test_bulk_and_many_threads_share_a_connection_with_tls(server, authority):
    # Given a client with TLS, whose connection OpenSSL lets only one thread use at a time
    client = Client(address_of(server), lane="grpc", token="t", tls=authority.root, timeout_s=20)
    value = bytes(range(256)) * 8000
    found = []

    def work():
        for number in range(20):
            futures = [client.futures.echo(one) for one in range(10)]
            found.append(client.echo(value) == value and [future.result() for future in futures] == list(range(10)))
            assert client.echo(number) == number

    # When several threads call at once, with bulk both ways
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Then each gets its own answers
    assert found == [True] * 80
    courier.close(client)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_bulk_of_any_size_is_waited_for_no_longer_than_until_it_is_there(
    segments, encrypted, identity, authority, tmp_path
):
    # Given messages that end shortly before and after what is worth waiting for, in one buffer or in several
    sizes = [(part << 14) + more for part in (1, 4, 5, 16, 17, 64, 80, 145) for more in (-1, 0, 1, 9000)]
    whole = [[bytearray(size)] for size in sizes]
    pieces = [[bytearray(size) for size in sizes[start::5]] for start in range(5)]
    with Server(token="t", tls=proving(identity, tmp_path) if encrypted else None) as server:
        server.bind("count", lambda buffers: [len(buffer) for buffer in buffers])
        server.bind("give", lambda sizes: [bytearray(size) for size in sizes])
        trusts = authority.root if encrypted else None
        with Client(address_of(server), lane="grpc", token="t", tls=trusts, timeout_s=20) as client:
            # When they go there and back, then nobody waits for what does not come
            for buffers in (*whole, *pieces):
                counts = client.count([pickle.PickleBuffer(buffer) for buffer in buffers])
                assert counts == [len(buffer) for buffer in buffers]
                assert list(map(len, client.give(counts))) == counts


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_bulk_is_waited_for_only_where_the_system_sees_that_no_more_can_come(encrypted, segments, server, authority):
    # Given a connection
    trusts = authority.root if encrypted else None
    channel = Channel(f"/{SERVICE}/Connect", address_of(server), (TOKEN_KEY, "t"), 5.0, trusts)
    raw = socket.socket(fileno=os.dup(channel.socket.fileno()))
    # When it is told of bulk that is to come
    channel.socket.expect(1 << 20)
    # Then it waits for a good part of that, unless segments are large
    at_once = raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
    assert (at_once == 1) == (segments == "segments as on loopback")
    raw.close()
    channel.socket.close()


def test_what_openssl_has_in_memory_is_not_waited_for(segments, server, authority):
    # Given a client whose call has one byte more than a frame of HTTP/2, and a server that has read most of it
    channel = Channel(f"/{SERVICE}/Connect", address_of(server), (TOKEN_KEY, "t"), 5.0, authority.root)
    reader = FrameReader(channel.socket, channel.http2, "the server")
    while not reader.packets.messages:
        reader.parse(channel.receive())
    wire = Wire()
    writer = PacketWriter(wire, channel.http2)
    server.bind("count", len)
    payload = codec.encode_call((bytearray(1 << 20),), {}, "count")
    writer.put(pack(Frame(Kind.CALL, 1, 0.0, "count", payload.body, payload.buffers)))
    while writer.pending:
        writer.send_some()
    send_all(channel.socket, wire.data[:-20_000])
    # When the last two records come at once, of which the last has the end of one frame and all of the next
    raw = socket.socket(fileno=os.dup(channel.socket.fileno()))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    send_all(channel.socket, wire.data[-20_000:-5_000])
    send_all(channel.socket, wire.data[-5_000:])
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    raw.close()
    # Then the server answers, though nothing more comes
    frames: list[Frame] = []
    while not frames:
        frames = reader.parse(channel.receive())
    assert [frame.kind for frame in frames] == [Kind.RESULT]
    channel.socket.close()


class Wire(TcpSocket):
    """Takes what is written."""

    def __init__(self):
        self.data = b""

    def send(self, buffers):
        self.data += b"".join(buffers)
        return sum(map(len, buffers))


def send_all(sock, data):
    """Send it, in records as large as may be."""
    while data:
        try:
            data = data[sock.send([data]) :]
        except BlockingIOError:
            select.select([], [sock], [], 5)


def test_both_ends_may_show_certificates(authority, identity, tmp_path):
    # Given a server that wants to see its clients' certificates
    demanding = proving(identity, tmp_path)
    demanding.verify_mode = ssl.CERT_REQUIRED
    demanding.load_verify_locations(cadata=authority.root.decode())
    with Server(token="t", tls=demanding) as server:
        server.bind("echo", lambda value: value)
        key, certificate = authority.issue("client")
        # When one shows its own and another has none
        shown = ssl.create_default_context(cadata=authority.root.decode())
        own = tmp_path / "own.pem"
        own.write_bytes(key + certificate)
        shown.load_cert_chain(own)
        known = Client(address_of(server), lane="grpc", token="t", tls=shown, timeout_s=20)
        stranger = Client(address_of(server), lane="grpc", token="t", tls=authority.root, wait_for_ready=False)
        # Then only the first is served
        assert known.echo(3) == 3
        with pytest.raises(ServerUnavailable):
            stranger.echo(3)
        courier.close(known)
        courier.close(stranger)


def test_the_standard_services_are_behind_tls_too(server, authority):
    # Given gRPC's own client, which trusts the CA
    with grpc.secure_channel(address_of(server), grpc.ssl_channel_credentials(authority.root)) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        # When it asks
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True)
        # Then it hears that the server is well
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
