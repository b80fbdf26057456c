"""The client's side of a stream, without a connection."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kourou.courier.calling.stream_reader import RemoteIterator, StreamBuffer
from kourou.courier.core.protocol import WINDOW_BYTES, WINDOW_ITEMS
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Frame, Kind


class Connection:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send_quietly(self, frame):
        self.sent.append(frame)

    def end_stream(self, call_id):
        pass

    def reads_here(self):
        return False

    def loop_reader(self, loop):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("size", "count", "granted"),
    [
        (1, WINDOW_ITEMS, [WINDOW_ITEMS // 2] * 2),
        (WINDOW_BYTES // 4, 5, [2, 2]),
        (2 * WINDOW_BYTES, 2, [1, 1]),
    ],
    ids=["small", "large", "larger than the window"],
)
def test_credit_is_granted_for_half_a_window(size, count, granted):
    # Given a stream whose items are taken as soon as they come
    connection, buffer = Connection(), StreamBuffer()
    stream = RemoteIterator(buffer, cast("Any", connection), 7, "items", timeout_s=5)
    # When items come, one at a time
    for number in range(count):
        body, _ = codec.encode(number, "an item")
        buffer.deliver(Frame(Kind.ITEM, 7, 0.0, "", body, (bytearray(size),)))
        assert next(stream) == number
    # Then few frames grant credit, and what is not granted yet is less than what stops the sender
    assert [(frame.kind, frame.call_id) for frame in connection.sent] == [(Kind.CREDIT, 7)] * len(granted)
    assert [frame.number for frame in connection.sent] == granted
    stream.close()
