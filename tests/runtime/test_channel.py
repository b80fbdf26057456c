"""The channel between a supervisor and its zygote, whose ends never wait for each other."""

from __future__ import annotations

import os
import select
import socket

import pytest

from kourou.runtime.process.channel import Channel
from polling import WAIT_S

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def ends():
    left, right = (Channel(sock) for sock in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def take(receiver, sender):
    """The next message, with both ends doing what their loops would."""
    while (taken := receiver.take()) is None:
        sender.flush()
        assert select.select([receiver], [], [], WAIT_S)[0]
        assert receiver.receive()
    return taken


def test_messages_and_descriptors_go_through_a_channel_whole(ends):
    left, right = ends
    read_end, write_end = os.pipe()
    message = {"text": "東京 \udcff", "large": "x" * 3_000_000}
    left.send(message, (write_end,))
    received, fds = take(right, left)
    assert received == message
    os.write(fds[0], b"through")
    assert os.read(read_end, 100) == b"through"
    left.close()
    assert not right.receive()
    for fd in (read_end, *fds):
        os.close(fd)


def test_both_ends_send_much_more_than_fits_before_either_reads(ends):
    # Given far more messages in both directions than the sockets hold, sent from one thread
    left, right = ends
    for number in range(5_000):
        left.send({"left": number})
        right.send({"right": number})
    assert left.wants_write
    assert right.wants_write
    # When both are read, then all of them arrive in order
    assert [take(right, left)[0]["left"] for _ in range(5_000)] == list(range(5_000))
    assert [take(left, right)[0]["right"] for _ in range(5_000)] == list(range(5_000))
    assert not left.wants_write


def test_descriptors_stay_with_their_messages(ends):
    # Given messages with no descriptor, one, or two, in one go
    left, right = ends
    pipes = [os.pipe() for _ in range(30)]
    for number, (_, write_end) in enumerate(pipes):
        left.send({"number": number}, tuple(os.dup(write_end) for _ in range(number % 3)))
        os.close(write_end)
    # When, then each comes with its own
    for number, (read_end, _) in enumerate(pipes):
        message, fds = take(right, left)
        assert message == {"number": number}
        for fd in fds:
            os.write(fd, b"%d" % number)
            os.close(fd)
        assert os.read(read_end, 100) == b"%d" % number * (number % 3)
        os.close(read_end)


def test_what_is_on_its_way_is_closed_with_the_channel(ends):
    # Given an end that is read by nobody, with descriptors that are still to be sent, and some that were
    left, right = ends
    read_end, write_end = os.pipe()
    for _ in range(2_000):
        left.send({"op": "spawn"}, (os.dup(write_end),))
    assert left.wants_write
    right.receive()
    # When both ends close, then nobody holds the pipe any more
    os.close(write_end)
    left.close()
    right.close()
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_who_sends_to_a_closed_end_finds_out_when_it_receives(ends):
    left, right = ends
    right.close()
    left.send({"op": "signal"})
    assert not left.wants_write
    assert not left.receive()


def test_a_fork_closes_its_copy_of_a_channel(ends):
    # Given a channel, and a fork that lives on.
    left, right = ends
    gate_r, gate_w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(gate_w)
        os.read(gate_r, 1)
        os._exit(0)
    # When this process closes its end, then the other one is told so although the fork lives.
    left.close()
    assert select.select([right], [], [], WAIT_S)[0]
    assert not right.receive()
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(gate_w)
    os.waitpid(child, 0)
    os.close(gate_r)
