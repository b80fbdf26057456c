"""HTTP/2 that makes no sense: whoever reads it ends the connection with an error of ours, and soon."""

import contextlib
import random
import socket
import struct
import threading
from collections import deque

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.courier.calling.connection import Connection
from kourou.courier.calling.reply import Reply
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.lanes.grpc import client
from kourou.courier.lanes.http2 import hpack
from kourou.courier.lanes.http2.client import Http2Call
from kourou.courier.lanes.http2.control import PREFACE
from kourou.courier.lanes.http2.hpack import HeaderDecoder
from kourou.courier.lanes.http2.packets import PacketReader, message_head
from kourou.courier.lanes.http2.server import Http2Service
from kourou.courier.wire.codec import Payload
from kourou.errors import ConnectionLost, ProtocolError, RpcError
from polling import until

DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
OK = b"\x88"  # :status 200, as the static table has it
SUCCESS = hpack.encode([(":status", "200"), ("grpc-status", "0")])


def frame(kind, flags, stream, payload=b"", size=None):
    return struct.pack(">IBI", (len(payload) if size is None else size) << 8 | kind, flags, stream) + payload


def encode_text(text):
    """As a value among headers, of 127 to 16510 bytes."""
    more = len(text) - 127
    return bytes((127, more % 128 | 128, more // 128)) + text


def trailers(status, message=""):
    return frame(HEADERS, 5, 1, hpack.encode([("grpc-status", str(status)), ("grpc-message", message)]))


WELCOME = frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, OK) + frame(DATA, 0, 1, bytes(5))


def call():
    return Http2Call([(":method", "POST")])


def service():
    """A server's end whose call has begun."""
    begun = Http2Service()
    begun.feed(call().opening[len(PREFACE) :])
    begun.accept()
    return begun


def malformed(chance):
    """A frame with something wrong in it: noise, a damaged frame, or a whole one of any kind at any time."""
    choice = chance.randrange(3)
    if choice == 0:
        return chance.randbytes(chance.randrange(1, 60))
    kind, flags, stream = chance.randrange(12), chance.randrange(256), chance.choice([0, 1, 1, 1, 3, 2**31 - 1])
    payload = chance.choice([b"", bytes(4), bytes(8), OK, chance.randbytes(chance.randrange(40))])
    size = None if choice == 1 else chance.choice([0, 3, 17_000, 1 << 20, (1 << 24) - 1])
    return frame(kind, flags, stream, payload, size)


@pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("end", [call, service])
def test_malformed_frames_end_in_protocol_errors(end, count):
    chance = random.Random(1)
    refused = 0
    for _ in range(count):
        http2, packets = end(), PacketReader()
        try:
            for _ in range(4):
                for piece in http2.feed(malformed(chance)):
                    assert sum(map(len, packets.feed(piece))) <= len(piece)
            http2.frames(deque([b"x" * 100_000]))
        except ProtocolError:
            refused += 1
    assert refused > count * 2 // 5


@pytest.mark.parametrize(
    "nonsense",
    [
        frame(DATA, 0, 3, b"x"),
        frame(DATA, 0, 1, b"", (1 << 20) + 1),
        frame(DATA, 8, 1, b"\x09abc"),
        frame(DATA, 1, 1, b"x"),
        frame(HEADERS, 4, 1, OK + b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, 4, 1, b"\xbe"),
        frame(HEADERS, 4, 1, b"\x10\x05ab"),
        frame(HEADERS, 0, 1, OK) + frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, 0, 1, OK) + frame(CONTINUATION, 0, 1, bytes(1000)) * 70,
        frame(CONTINUATION, 4, 1, OK),
        frame(HEADERS, 12, 1, b"\xff"),
        trailers(0) + frame(DATA, 0, 1, b"x"),
        trailers(0) + trailers(0),
        frame(PUSH, 4, 1, bytes(4)),
        frame(SETTINGS, 0, 0, bytes(7)),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)),
        frame(WINDOW, 0, 0, bytes(4)),
        frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"),
        frame(WINDOW, 0, 0, b"\1"),
        frame(RESET, 0, 1, b""),
        frame(PING, 0, 0, bytes(8)) * 1001,
        frame(13, 0, 0, b"", 1 << 17),
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_what_a_server_may_not_send(nonsense):
    with pytest.raises(ProtocolError):
        call().feed(nonsense)


@pytest.mark.parametrize(
    "nonsense",
    [
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 1, 1, b"x") + frame(DATA, 0, 1, b"x"),
        frame(DATA, 8, 3, b"\x09abc"),
        frame(HEADERS, 4, 1, OK),
        frame(HEADERS, 0, 3, OK) + frame(DATA, 0, 1, b"x"),
        frame(PUSH, 4, 1, bytes(4)),
        frame(WINDOW, 0, 0, bytes(4)),
        b"".join(frame(HEADERS, 4, number, OK) for number in range(3, 3000, 2)),
    ],
)
def test_what_a_client_may_not_send(nonsense):
    with pytest.raises(ProtocolError):
        service().feed(nonsense)


def test_a_second_call_on_a_connection_is_refused_and_its_body_skipped():
    server = service()
    sent = (
        frame(HEADERS, 4, 3, OK)
        + frame(DATA, 0, 3, b"skipped")
        + frame(DATA, 8, 3, b"\x01ab")
        + frame(DATA, 1, 1, b"mine")
    )
    assert b"".join(server.feed(sent)) == b"mine"
    assert frame(RESET, 0, 3, struct.pack(">I", 7)) in b"".join(server.frames(deque()))
    assert server.ended
    assert not server.was_reset


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        (frame(HEADERS, 4, 1, OK) + trailers(16, "no%20token"), 16, "no token"),
        (frame(HEADERS, 5, 1, b"\x8d"), 2, "no gRPC server: HTTP status 404"),
        (frame(HEADERS, 1, 1, SUCCESS[:5]) + frame(CONTINUATION, 4, 1, SUCCESS[5:]), 0, ""),
        (frame(HEADERS, 0x2D, 1, b"\x03" + bytes(5) + OK + bytes(3)), 2, "no gRPC server: HTTP status 200"),
        (frame(RESET, 0, 1, struct.pack(">I", 8)), 14, "the server reset the stream (code 8)"),
        (frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0) + b"bye"), 14, "the server went away: bye"),
    ],
)
def test_how_a_call_may_end(ending, status, message):
    # Given a call, whether what the server sends comes at once or byte by byte
    whole, bytewise = call(), call()
    # When the server ends it
    whole.feed(ending)
    for position in range(len(ending)):
        bytewise.feed(ending[position : position + 1])
    # Then the end is known
    assert whole.end == bytewise.end == (status, message)


@given(st.binary(max_size=3000), st.data())
def test_a_body_survives_any_cutting_and_padding(contents, data):
    # Given contents in packets, in frames some of which are padded, between frames of other kinds
    messages = b"".join(message_head(len(part)) + part for part in (contents[:700], b"", contents[700:]) if part)
    messages += bytes(5)
    stream = b""
    while messages:
        piece, messages = messages[:997], messages[997:]
        padding = data.draw(st.integers(0, 200))
        stream += frame(DATA, 8, 1, bytes((padding,)) + piece + bytes(padding)) if padding else frame(DATA, 0, 1, piece)
        stream += frame(PING, 0, 0, bytes(8)) + frame(99, 7, 5, b"unknown")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    # When it comes in any pieces
    http2, packets = call(), PacketReader()
    found = b""
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for piece in http2.feed(stream[start:stop]):
            found += b"".join(packets.feed(piece))
    # Then the same contents come out, and every question was answered
    assert found == contents
    answers = b"".join(http2.frames(deque()))
    assert answers == frame(PING, 1, 0, bytes(8)) * stream.count(frame(PING, 0, 0, bytes(8)))


@given(st.lists(st.binary(min_size=1, max_size=60_000), max_size=6), st.data())
@settings(max_examples=examples(50))
def test_what_is_sent_stays_within_the_windows(parts, data):
    # Given a server that allows frames of 20000 bytes and opens its windows bit by bit
    http2 = call()
    http2.feed(frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 10, 5, 20_000)))
    (acknowledgement,) = http2.frames(deque())
    assert acknowledgement == frame(SETTINGS, 1, 0)
    body, allowed, sent = deque(parts), 10, b""
    while body:
        # When there is more to send
        for piece in http2.frames(body):
            sent += piece
        # Then no more is sent than was allowed
        payload = unframed(sent)
        assert len(payload) == min(allowed, sum(map(len, parts)))
        more = data.draw(st.integers(1, 100_000))
        allowed += more
        for stream in (0, 1):
            http2.feed(frame(WINDOW, 0, stream, struct.pack(">I", more)))
    assert unframed(sent) == b"".join(parts)


def unframed(stream):
    """The contents of DATA frames, none of which may be too long."""
    found = b""
    while stream:
        size, flags, number = struct.unpack_from(">IBI", stream)
        assert (size & 0xFF, flags, number) == (DATA, 0, 1)
        assert size >> 8 <= 20_000
        found += stream[9 : 9 + (size >> 8)]
        stream = stream[9 + (size >> 8) :]
    return found


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_headers_are_read_or_refused(blocks):
    decoder = HeaderDecoder()
    with contextlib.suppress(ProtocolError):
        for block in blocks:
            assert all(isinstance(text, str) for header in decoder.decode(block) for text in header)


LISTS_OF_HEADERS = st.lists(st.tuples(st.text(min_size=1, max_size=150), st.text(max_size=150)), max_size=3)


@given(LISTS_OF_HEADERS)
def test_headers_survive(headers):
    assert HeaderDecoder().decode(hpack.encode(headers)) == headers


@given(LISTS_OF_HEADERS, st.integers(0, 1000), st.binary(max_size=2))
def test_what_is_sent_is_read_by_us_as_by_the_library_however_it_is_damaged(headers, at, damage):
    block = hpack.encode(headers)
    damaged = block[:at] + damage + block[at + 1 :]
    for one in (block, damaged):
        try:
            expected = [(name.decode(errors="replace"), value.decode(errors="replace")) for name, value in raw(one)]
        except HPACKError:
            with pytest.raises(ProtocolError):
                HeaderDecoder().decode(one)
        else:
            assert HeaderDecoder().decode(one) == expected


def raw(block):
    return Decoder(16 << 10).decode(block, raw=True)


@given(st.lists(LISTS_OF_HEADERS, max_size=4), st.booleans())
def test_headers_of_encoders_with_tables_and_with_huffmans_code_are_understood(lists, huffman):
    # Given an encoder of another make, which refers to headers that it has sent before
    encoder, decoder = Encoder(), HeaderDecoder()
    for headers in [*lists, *lists]:
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == headers


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x40\x01a" + encode_text(b"x" * 4000) + b"\xbe" * 10_000,
        b"\x00\x00\x00" * 5000,
        b"\x00\x01a" + encode_text(b"x" * 16_350) + b"\x88",
        b"\x20" * 20_000,
        b"\x3f\xe2\x1f",
        b"\x00\x01a\x83\xff\xff\xff",
        OK + b"\x3f\xe1\x1f",
    ],
    ids=[
        "one entry again and again",
        "many small ones",
        "more than 16 KiB",
        "a block of more",
        "a table of 4097 bytes",
        "a code that there is not",
        "a table that changes in the midst",
    ],
)
def test_headers_that_would_take_much_memory_or_time_are_refused(bomb):
    with pytest.raises(ProtocolError):
        HeaderDecoder().decode(bomb)
    with pytest.raises(ProtocolError):
        call().feed(frame(HEADERS, 0, 1, bomb[:16_000]) + frame(CONTINUATION, 4, 1, bomb[16_000:]))


# -- over a socket ------------------------------------------------------------------------------------------------


class Impostor:
    """A server that accepts any call, and then sends what it is told to."""

    def __init__(self, *answers):
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(server_id="s", pid=1, host_id="h", grpc=f"127.0.0.1:{self._listener.getsockname()[1]}")
        self.heard = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(20)
        self._listener.close()

    def _serve(self):
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(20)
                connection.recv(65536)
                connection.sendall(answer)
                with contextlib.suppress(ConnectionError):
                    while data := connection.recv(65536):
                        self.heard += data


@pytest.mark.usefixtures("no_leaks")
def test_a_server_that_talks_nonsense_instead_of_greeting():
    chance = random.Random(5)
    answers = [chance.choice([b"", frame(SETTINGS, 0, 0)]) + malformed(chance) * 40 for _ in range(40)]
    refused = 0
    with Impostor(*answers) as server:
        for _ in answers:
            # When a client dials, then it has an error of ours or a connection, and does not hang
            try:
                client.dial(server.endpoint, "t", 0.1).close()
            except RpcError:
                refused += 1
    assert refused > len(answers) // 2


@pytest.mark.usefixtures("no_leaks")
def test_a_server_that_talks_nonsense_after_its_greeting():
    # Given servers that welcome a client, and then send noise
    chance = random.Random(6)
    answers = [WELCOME + malformed(chance) * 40 + frame(PUSH, 4, 1, bytes(4)) for _ in range(40)]
    ended = 0
    with Impostor(*answers) as server:
        for _ in answers:
            try:
                connection = connected(server)
            except ProtocolError:
                continue  # the noise came together with the welcome
            # When a call waits for its answer
            reply = Reply("echo", 0.1)
            connection.submit(reply, Payload(b"x"), caller_waits=True)
            # Then it ends, with an error of ours
            assert isinstance(reply.exception(10), RpcError)
            ended += 1
            connection.end()
    assert ended  # some had welcomed it before their noise was seen


def connected(server):
    transport = client.dial(server.endpoint, "t", 10)
    connection = Connection("it", server.endpoint, transport, lambda: ConnectionLost("it broke"), lambda: None, set())
    transport.start(connection)
    return connection


@pytest.mark.usefixtures("no_leaks")
def test_an_idle_client_answers_a_server_that_asks_whether_it_lives(monkeypatch):
    # Given a client that looks at its socket now and then though it waits for nothing
    monkeypatch.setattr(client.GrpcTransport, "idle_s", 0.05)
    question = frame(PING, 0, 0, b"alive???")
    with Impostor(WELCOME + question) as server:
        connection = connected(server)
        # When it is asked, then it answers without having been called
        until(lambda: frame(PING, 1, 0, b"alive???") in server.heard, 10)
        connection.end()


def test_headers_go_on_in_their_own_stream():
    block = hpack.encode([(":path", "/x")])
    with pytest.raises(ProtocolError, match="not continued"):
        Http2Service().feed(frame(HEADERS, 0, 1, block[:2]) + frame(CONTINUATION, 4, 3, block[2:]))
