"""Frames that become packets of an HTTP/2 call, and frames again."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.courier.lanes.http2.client import Http2Call
from kourou.courier.lanes.http2.control import PREFACE
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.lanes.http2.packets import PACKET_BYTES, PacketReader
from kourou.courier.lanes.http2.server import Http2Service
from kourou.courier.lanes.http2.tcp import TcpSocket


class Pipe(TcpSocket):
    """Takes as much as it is told to, and nothing at all in between."""

    def __init__(self, portions):
        self._portions = portions
        self._turn = 0
        self.taken = b""

    def send(self, buffers):
        self._turn += 1
        portion = self._portions[self._turn % len(self._portions)]
        if not portion:
            raise BlockingIOError
        self.taken += b"".join(buffers)[:portion]
        return min(portion, sum(map(len, buffers)))


def call_and_service():
    call, service = Http2Call([(":method", "POST"), (":path", "/x")]), Http2Service()
    service.feed(call.opening[len(PREFACE) :])
    service.accept()
    return call, service


SIZES = st.sampled_from([1, 100, 65_535, 65_536, 1 << 20, PACKET_BYTES, PACKET_BYTES + 5])
PORTIONS = st.lists(st.sampled_from([0, 7, 5000, 1 << 20, 1 << 30]), min_size=1, max_size=4).filter(
    lambda portions: max(portions) >= 5000
)


@given(st.lists(st.lists(SIZES, min_size=1, max_size=3), max_size=4), PORTIONS, st.booleans())
@settings(max_examples=examples(30))
def test_what_was_put_comes_out_in_its_order(frames, portions, kept):
    # Given a service, and frames of one part, which are queued, and of several, which are put
    call, service = call_and_service()
    pipe = Pipe(portions)
    writer, packets = PacketWriter(pipe, service), PacketReader()
    expected = b""
    # When they are written by and by, though their memory changes once they are kept
    for number, sizes in enumerate(frames):
        parts = [bytearray([number + 1]) * size for size in sizes]
        expected += b"".join(parts)
        if len(parts) == 1:
            writer.queue.append(bytes(parts[0]))
            while writer.pending and not kept:
                writer.send_some()
        else:
            writer.put(parts)
            writer.send_some()
            if kept:
                writer.copy_unsent()
                for part in parts:
                    part[:] = bytes(len(part))
            while writer.pending:
                writer.send_some()
    writer.finish(service.trailers(0, "all said"))
    while writer.pending:
        writer.send_some()
    # Then the client reads the same bytes, and the end
    found = b"".join(contents for piece in call.feed(pipe.taken) for contents in packets.feed(piece))
    assert found == expected
    assert call.end == (0, "all said")
    assert writer.sent == len(pipe.taken)


def test_an_end_comes_after_the_frame_that_was_begun_and_instead_of_all_else():
    # Given bulk of which a piece is on its way, and more behind it
    call, service = call_and_service()
    pipe = Pipe([5000])
    writer = PacketWriter(pipe, service)
    writer.put([b"x" * 1_000_000])
    writer.send_some()
    writer.put([b"y" * 1_000_000])
    writer.queue.append(b"z" * 1000)
    assert writer.size > 1_990_000
    # When the call is ended
    writer.end(service.trailers(3, "nonsense"))
    while writer.pending:
        writer.send_some()
    # Then the client hears it soon
    call.feed(pipe.taken)
    assert call.end == (3, "nonsense")
    assert b"yy" not in pipe.taken
    assert b"zz" not in pipe.taken


def test_a_refusal_is_all_that_a_client_hears():
    call, service = Http2Call([(":path", "/x")]), Http2Service()
    service.feed(call.opening[len(PREFACE) :])
    call.feed(service.hello + service.rejection(16, "wrong token: 100 % \u00fc"))
    assert call.end == (16, "wrong token: 100 % \u00fc")
