"""Malformed frames and greetings: the connection is closed, nothing is unpickled, and the server serves on."""

import os
import random
import socket
import struct
from typing import Any

import grpc
import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.courier.lanes.http2.client import Http2Call
from kourou.courier.lanes.local import socket_file
from kourou.courier.wire import codec, frames
from kourou.courier.wire.frames import Frame, FrameParser, Kind, pack
from kourou.errors import ProtocolError

HEAD = struct.Struct("<IBBHIQd")


class Bomb:
    """Unpickling it would be noticed."""

    def __reduce__(self):
        return os.environ.__setitem__, ("KOUROU_TEST_BOMB", "1")


@pytest.fixture
def server(tmp_path, no_leaks):
    with Server(token=new_token(), socket_dir=str(tmp_path)) as server:
        server.bind("echo", lambda value: value)
        yield server
        assert "KOUROU_TEST_BOMB" not in os.environ
        for lane in ("local", "grpc", "inproc"):
            client = Client(server.address, token=server.token, lane=lane, timeout_s=20)
            assert client.echo(5) == 5
            courier.close(client)


def valid_call(call_id=1, buffers=()):
    payload = codec.encode_call((b"x" * 50, *buffers), {}, "echo")
    return b"".join(pack(Frame(Kind.CALL, call_id, 0.0, "echo", payload.body, payload.buffers)))


def malformed(chance):
    """A frame with something wrong in it: noise, a made-up head, a damaged head, or an end in the middle.

    Pickles are left alone. A peer that has shown the token is trusted with them, as with any code it may send; and
    CPython's unpickler takes gigabytes and half a minute for a damaged LONG_BINPUT, with the interpreter's lock held.
    """
    choice = chance.randrange(4)
    if choice == 0:
        return chance.randbytes(chance.randrange(1, 200))
    if choice == 1:
        fields = [chance.choice([0, 1, 5, 200, 2**16 - 1, 2**32 - 1]), chance.randrange(256), chance.randrange(256)]
        fields += [chance.choice([0, 4, 2**16 - 1]), chance.choice([0, 1, 2**31]), chance.getrandbits(64)]
        return HEAD.pack(*fields, chance.choice([0.0, -1.0, float("nan"), 1e300])) + chance.randbytes(30)
    frame = bytearray(valid_call(chance.getrandbits(63)))
    if choice == 2:
        for _ in range(chance.randrange(1, 5)):
            frame[chance.randrange(HEAD.size + len("echo"))] = chance.randrange(256)
        return bytes(frame)
    return bytes(frame[: chance.randrange(len(frame))])


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_the_parser_survives_malformed_frames(count):
    chance = random.Random(1)
    refused = 0
    for _ in range(count):
        try:
            found = FrameParser().feed(malformed(chance))
        except ProtocolError:
            refused += 1
        else:
            assert all(0 < frame.kind < Kind.RELEASE for frame in found)
    assert refused > count // 4


@given(st.lists(st.binary(max_size=300_000), max_size=4), st.data())
@settings(max_examples=examples(60))
def test_frames_survive_any_cutting(buffers, data):
    body = data.draw(st.binary(max_size=100_000))
    frame = Frame(Kind.CALL, 2**64 - 1, 1.5, "métho\0d", body, buffers)
    stream = b"".join(pack(frame)) * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser = FrameParser()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[start:stop])
    assert len(found) == 2
    for one in found:
        assert one[:4] == frame[:4]
        assert not isinstance(one.body, tuple)
        assert bytes(one.body) == body
        assert [bytes(buffer) for buffer in one.buffers] == buffers


def test_a_frame_that_comes_byte_by_byte_is_put_together_once(monkeypatch):
    # Given a frame whose inline part is large
    frame = Frame(Kind.CALL, 1, 1.0, "echo", bytes(60_000), [b""] * 2_000)
    stream = b"".join(pack(frame)) * 2
    looks = []
    unpack_head = frames._unpack_head

    def look(*place):
        looks.append(place)
        return unpack_head(*place)

    monkeypatch.setattr(frames, "_unpack_head", look)
    # When it comes in the smallest pieces, as many small DATA frames of HTTP/2 bring it
    parser = FrameParser()
    found = [frame for position in range(len(stream)) for frame in parser.feed(stream[position : position + 1])]
    # Then the pieces are joined when the head is there, and when all is; not with each of them
    assert [one.body for one in found] == [frame.body] * 2
    assert len(looks) == 4


def test_limits_hold_before_memory_is_taken():
    for head in (
        HEAD.pack(2**32 - 1, Kind.CALL, 0, 0, 0, 1, 0.0),
        HEAD.pack(0, Kind.CALL, 0, 0, 2**32 - 1, 1, 0.0),
        HEAD.pack(20, Kind.CALL, 0, 0, 1, 1, 0.0) + struct.pack("<QIQ", 2**63, 0, 0),
        HEAD.pack(20, Kind.CALL, 0, 0, 1, 1, 0.0) + struct.pack("<QIQ", 10, 1, 0),
        HEAD.pack(0, Kind.SEGMENT, 0, 0, 0, 1, 1e9),
    ):
        with pytest.raises(ProtocolError):
            FrameParser().feed(head)


def dial(server):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(server.endpoint.local)
    return connection


def closed_by_peer(connection):
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("count", [300, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_strangers_are_turned_away(server, count):
    chance = random.Random(2)
    bomb = b"".join(pack(Frame(Kind.CALL, 1, 0.0, "echo", codec.encode(Bomb(), "a bomb").body)))
    for _ in range(count):
        with dial(server) as connection:
            greeting = chance.choice([b"", b"KOUROU\x01\n", b"KOUROU\x01\n\x05\x00wrong", b"KOUROU\x02\n"])
            connection.sendall(greeting + chance.choice([bomb, chance.randbytes(50), b"\xff" * 2000]))
            connection.shutdown(socket.SHUT_WR)
            assert closed_by_peer(connection)


@pytest.mark.parametrize("count", [300, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_known_clients_that_talk_nonsense_are_cut_off(server, count):
    chance = random.Random(3)
    for _ in range(count):
        main, side = socket_file.greet(server.endpoint.local, server.token, 20)
        with main, side:
            main.settimeout(20)
            main.sendall(malformed(chance))
            main.shutdown(socket.SHUT_WR)
            assert closed_by_peer(main)


@pytest.mark.parametrize("count", [300, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_nonsense_instead_of_http2_is_cut_off(server, count):
    # Given clients that begin as they should, with or without the token, as far as they come
    chance = random.Random(6)
    host, _, port = server.address.rpartition(":")
    for _ in range(count):
        headers = [(":path", "/kourou.v1.Courier/Connect"), ("kourou-token", chance.choice([server.token, "wrong"]))]
        opening = Http2Call(headers).opening
        said = opening[: chance.choice([len(opening), chance.randrange(len(opening))])]
        # When they go on with noise, and say no more
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall(said + chance.choice([chance.randbytes(60), chance.randbytes(9), malformed(chance)]))
            connection.shutdown(socket.SHUT_WR)
            # Then the server ends the connection
            assert closed_by_peer(connection)


@pytest.mark.parametrize("count", [50, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(3000)])])
def test_nonsense_over_grpc_ends_the_stream(server, count):
    chance = random.Random(4)
    with grpc.insecure_channel(server.address) as channel:
        connect: Any = channel.stream_stream("/kourou.v1.Courier/Connect")
        for _ in range(count):
            token = chance.choice([server.token, server.token, "wrong"])
            message = malformed(chance)
            framed = b"\x0a" + bytes([len(message) & 0x7F | 0x80, len(message) >> 7]) + message
            call = connect(iter([chance.choice([framed, message])]), metadata=(("kourou-token", token),), timeout=20)
            assert outcome(call) in {
                "greeted",
                "answered",
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.INVALID_ARGUMENT,
            }


def outcome(call):
    try:
        return "greeted" if next(call) == b"" and not any(call) else "answered"
    except grpc.RpcError as error:
        return error.code()
