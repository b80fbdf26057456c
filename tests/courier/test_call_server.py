"""A gRPC server of few methods, as gRPC's own client and strangers see it."""

from __future__ import annotations

import collections
import contextlib
import socket
from typing import Any

import grpc
import pytest

from grpc_poller import _grpc_is_up_here
from kourou.courier.lanes.grpc.asking import MessageStream, ask
from kourou.courier.lanes.grpc.calls import CallServer, Methods
from kourou.courier.lanes.grpc.channel import Channel
from kourou.courier.lanes.http2.control import PREFACE, make_http2_frame
from kourou.errors import ProtocolError, ServerUnavailable, Unauthenticated
from polling import WAIT_S, closed_by_peer, until

__all__ = ["_grpc_is_up_here"]

TOKEN = "secret"
HEADERS, DATA, RESET = 1, 0, 3


class Ticker:
    """The source of a stream: messages that a test puts into it."""

    def __init__(self, request, on_news):
        self.request = request
        self.on_news = on_news
        self.messages: collections.deque[bytes] = collections.deque()
        self.taken = 0
        self.heard: list[bytes] = []
        self.closed = False

    def put(self, *messages):
        self.messages.extend(messages)
        self.on_news()

    def next_message(self):
        if not self.messages:
            return None
        self.taken += 1
        return self.messages.popleft()

    def take(self, message):
        if message == b"nonsense":
            raise ValueError("what?")
        self.heard.append(message)

    def ends(self):
        self.heard.append(b"the end")
        return self.request == b"brief"

    def close(self):
        self.closed = True


class Service:
    """A server that echoes and ticks."""

    def __init__(self, most=64):
        self.tickers: list[Ticker] = []
        methods = Methods(
            unary={"/s/Echo": lambda request: request, "/s/Grow": lambda request: bytes(int(request)), "/s/Fail": fail},
            streaming={"/s/Tick": self._tick},
            token_key="token",
            token=TOKEN,
        )
        self.server = CallServer("127.0.0.1", methods, most)
        self.address = f"127.0.0.1:{self.server.port}"

    def _tick(self, request, on_news):
        self.tickers.append(Ticker(request, on_news))
        return self.tickers[-1]

    @contextlib.contextmanager
    def channel(self):
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        with grpc.insecure_channel(self.address, options=options) as channel:
            yield channel

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.server.port), WAIT_S)


def fail(request):
    raise ValueError(request.decode())


@pytest.fixture
def service():
    made = Service()
    yield made
    made.server.close()


def unary(channel, method, request, token=TOKEN):
    call: Any = channel.unary_unary(f"/s/{method}")
    return call(request, metadata=(("token", token),), timeout=WAIT_S)


@pytest.mark.usefixtures("no_leaks")
def test_calls_are_answered_whatever_their_size(service):
    with service.channel() as channel:
        for size in (0, 1, 70_000, (4 << 20) - 5):
            assert unary(channel, "Echo", bytes(size)) == bytes(size)
        assert len(unary(channel, "Grow", b"20000000")) == 20_000_000


def test_what_goes_wrong_is_told(service):
    with service.channel() as channel:
        for method, request, token, code in (
            ("Fail", b"why", "secret", grpc.StatusCode.UNKNOWN),
            ("Nonsense", b"", "secret", grpc.StatusCode.UNIMPLEMENTED),
            ("Echo", b"", "guess", grpc.StatusCode.UNAUTHENTICATED),
            ("Echo", bytes(5 << 20), "secret", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as told:
                unary(channel, method, request, token)
            assert told.value.code() is code
        assert unary(channel, "Echo", b"x") == b"x"


def test_a_stream_has_what_its_source_has_until_the_client_goes(service):
    with service.channel() as channel:
        call: Any = channel.unary_stream("/s/Tick")
        stream = call(b"me", metadata=(("token", "secret"),))
        until(lambda: service.tickers, WAIT_S)
        ticker = service.tickers[0]
        ticker.put(b"1", b"2")
        ticker.put(b"3" * 100_000)
        assert [next(stream) for _ in range(3)] == [b"1", b"2", b"3" * 100_000]
        assert (ticker.request, ticker.closed) == (b"me", False)
        stream.cancel()
        until(lambda: ticker.closed, WAIT_S)
        # and the connection goes on
        assert unary(channel, "Echo", b"x") == b"x"


def test_of_a_client_that_reads_nothing_little_is_taken_and_others_are_served(service):
    with service.channel() as slow, service.channel() as channel:
        call: Any = slow.unary_stream("/s/Tick")
        stream = call(b"", metadata=(("token", "secret"),))
        until(lambda: service.tickers, WAIT_S)
        ticker = service.tickers[0]
        for _ in range(10):
            ticker.put(*[bytes(10_000)] * 10_000)  # together a gigabyte
            assert unary(channel, "Echo", b"x") == b"x"
        assert ticker.taken < 50_000  # as much as its own window lets through, which grpcio makes larger as it reads
        stream.cancel()
        until(lambda: ticker.closed, WAIT_S)


def test_calls_of_one_connection_do_not_wait_for_each_other(service):
    with service.channel() as channel:
        call: Any = channel.unary_unary("/s/Echo")
        futures = [call.future(str(i).encode(), metadata=(("token", "secret"),), timeout=WAIT_S) for i in range(500)]
        assert [future.result() for future in futures] == [str(i).encode() for i in range(500)]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + make_http2_frame(DATA, 0, 1, b"a body without a call"),
        PREFACE + make_http2_frame(HEADERS, 4, 1, b"\xff" * 9),
        PREFACE + make_http2_frame(HEADERS, 4, 2, b"\x83"),
        PREFACE + make_http2_frame(HEADERS, 0, 1, b"\x83") + make_http2_frame(DATA, 0, 1, b""),
        PREFACE + make_http2_frame(DATA, 0, 1, bytes(20_000)),
        PREFACE + make_http2_frame(8, 0, 0, bytes(4)),
        PREFACE + make_http2_frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
        PREFACE + make_http2_frame(6, 0, 0, bytes(7)),
    ],
)
def test_what_makes_no_sense_ends_its_connection_alone(service, said):
    with service.channel() as channel, service.connect() as stranger:
        assert unary(channel, "Echo", b"x") == b"x"
        stranger.sendall(said)
        until(lambda: closed_by_peer(stranger), WAIT_S)
        assert unary(channel, "Echo", b"x") == b"x"


def test_an_end_for_a_call_that_never_was_is_of_no_account(service):
    with service.connect() as stranger:
        stranger.sendall(PREFACE + make_http2_frame(RESET, 0, 7, bytes(4)) + make_http2_frame(6, 0, 0, b"pingpong"))
        received = b""
        while b"pingpong" not in received:
            piece = stranger.recv(1 << 16)
            assert piece, "its connection has ended"
            received += piece


def test_one_who_connects_and_waits_keeps_nobody_out():
    service = Service(most=4)
    with contextlib.ExitStack() as stack:
        stack.callback(service.server.close)
        for _ in range(20):
            stack.enter_context(service.connect())
        with service.channel() as channel:
            call: Any = channel.unary_unary("/s/Echo")
            answer = call(b"x", metadata=(("token", "secret"),), timeout=WAIT_S, wait_for_ready=True)
            assert answer == b"x"


def dial(service, method, token=TOKEN, within_s=WAIT_S):
    return Channel(f"/s/{method}", service.address, ("token", token), within_s)


@pytest.mark.usefixtures("no_leaks")
def test_our_own_client_asks_and_is_answered_whatever_the_size(service):
    for size in (0, 1, 70_000, (4 << 20) - 5):
        assert ask(dial(service, "Echo"), bytes(size), 4 << 20) == bytes(size)
    assert len(ask(dial(service, "Grow"), b"20000000", 1 << 30)) == 20_000_000


@pytest.mark.parametrize(
    ("method", "request_", "token", "error", "words"),
    [
        ("Fail", b"why", TOKEN, ServerUnavailable, "ValueError: why"),
        ("Nonsense", b"", TOKEN, ServerUnavailable, "no method"),
        ("Echo", b"", "guess", Unauthenticated, "token"),
        ("Echo", bytes(5 << 20), TOKEN, ServerUnavailable, "more than"),
        ("Grow", b"2000000", TOKEN, ProtocolError, "length"),
    ],
)
def test_our_own_client_hears_what_goes_wrong(service, method, request_, token, error, words):
    with pytest.raises(error, match=words):
        ask(dial(service, method, token), request_, 1 << 20)


def test_our_own_client_has_no_answer_from_who_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerUnavailable, match="in time"):
            ask(Channel("/s/Echo", address, ("token", TOKEN), 0.05), bytes(64 << 20), 1 << 20)


@pytest.mark.usefixtures("no_leaks")
def test_our_own_client_reads_a_stream_until_one_of_the_two_ends_it(service):
    stream = MessageStream(dial(service, "Tick"), b"me")
    until(lambda: service.tickers, WAIT_S)
    ticker = service.tickers[0]
    ticker.put(b"", bytes(100_000), b"last")
    messages = iter(stream)
    assert [next(messages) for _ in range(3)] == [b"", bytes(100_000), b"last"]
    stream.cancel()
    with pytest.raises(ServerUnavailable):
        next(messages)
    until(lambda: ticker.closed, WAIT_S)


def test_our_own_client_hears_of_a_server_that_goes(service):
    messages = iter(MessageStream(dial(service, "Tick"), b"me"))
    until(lambda: service.tickers, WAIT_S)
    service.server.close()
    with pytest.raises(ServerUnavailable):
        next(messages)


def test_both_sides_of_a_stream_speak_when_they_like(service):
    stream = MessageStream(dial(service, "Tick"), b"brief")
    until(lambda: service.tickers, WAIT_S)
    ticker = service.tickers[0]
    messages = iter(stream)
    ticker.put(b"welcome")
    assert next(messages) == b"welcome"
    # when more is said than is granted at once, in messages of all sizes
    said = [bytes(size) for size in (0, 1, 20_000, 2 << 20, 2 << 20, 2 << 20, 2 << 20, 2 << 20)]
    for number, message in enumerate(said):
        stream.say(message)
        until(lambda: len(ticker.heard) == number + 1, WAIT_S)  # noqa: B023
        ticker.put(b"heard")
        assert next(messages) == b"heard"
    # then all of it was heard, and the answer ends after the request
    assert ticker.heard == said
    stream.end()
    assert list(messages) == []
    assert ticker.heard[-1] == b"the end"
    assert ticker.closed


def test_what_is_said_on_a_stream_and_makes_no_sense_ends_it(service):
    with service.channel() as channel:
        call: Any = channel.stream_stream("/s/Tick")
        stream = call(iter([b"me", b"x", b"nonsense", b"y"]), metadata=(("token", "secret"),))
        with pytest.raises(grpc.RpcError) as told:
            list(stream)
        assert told.value.code() is grpc.StatusCode.UNKNOWN
        assert service.tickers[0].heard == [b"x"]
        assert service.tickers[0].closed
        assert unary(channel, "Echo", b"x") == b"x"


def test_a_stream_of_a_client_that_has_said_all_goes_on(service):
    with service.channel() as channel:
        call: Any = channel.stream_stream("/s/Tick")
        stream = call(iter([b"me"]), metadata=(("token", "secret"),))
        until(lambda: service.tickers and service.tickers[0].heard == [b"the end"], WAIT_S)
        service.tickers[0].put(b"1")
        assert next(stream) == b"1"
        stream.cancel()
        until(lambda: service.tickers[0].closed, WAIT_S)
