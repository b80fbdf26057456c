"""What is passed on to gRPC's standard services."""

from __future__ import annotations

from hypothesis import given, strategies as st

from kourou.courier.lanes.grpcio.relay import WithoutFirstAnswer
from kourou.courier.lanes.http2.control import ACK, PREFACE, FrameType, make_http2_frame

ACKNOWLEDGEMENT = make_http2_frame(FrameType.SETTINGS, ACK, 0, b"")
FRAMES = st.builds(
    make_http2_frame,
    st.sampled_from([FrameType.DATA, FrameType.HEADERS, FrameType.PING]),
    st.sampled_from([0, ACK]),
    st.integers(0, 3),
    st.binary(max_size=40),
)


@given(st.lists(FRAMES), st.data())
def test_one_acknowledgement_is_taken_out_of_what_is_passed_on(frames, data):
    # Given what a client says: frames, two of which acknowledge settings
    place = data.draw(st.integers(0, len(frames)))
    stream = PREFACE + b"".join([*frames[:place], ACKNOWLEDGEMENT, *frames[place:], ACKNOWLEDGEMENT])
    # When it comes in any pieces
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    passing = WithoutFirstAnswer()
    pieces = [passing.feed(stream[one:two]) for one, two in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    # Then the first one is missing, and nothing else
    assert b"".join(pieces) == PREFACE + b"".join(frames) + ACKNOWLEDGEMENT
