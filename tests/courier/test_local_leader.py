"""The threads that read connections, and run handlers themselves until one of them blocks."""

from __future__ import annotations

import threading

import pytest

from kourou import courier
from kourou.courier import Client, Server

pytestmark = pytest.mark.usefixtures("no_leaks")


class Chain:
    """Its second method frees the first, its third the second, so each must be served while the ones before block."""

    def __init__(self):
        self.entered_first, self.entered_second = threading.Event(), threading.Event()
        self.leave_first, self.leave_second = threading.Event(), threading.Event()

    def first(self):
        self.entered_first.set()
        self.leave_first.wait()

    def second(self):
        self.leave_first.set()
        self.entered_second.set()
        self.leave_second.wait()

    def third(self):
        self.leave_second.set()
        return "served"


@pytest.mark.parametrize("lane", ["local", "grpc"])
@pytest.mark.parametrize("attempt", range(5))
def test_a_leader_that_was_deposed_does_not_hide_that_its_successor_is_stuck(lane, attempt):
    # Given a server whose leader blocks in a handler
    chain = Chain()
    with Server() as server:
        server.bind_object(chain)
        client = Client(f"127.0.0.1:{server.port}", token=server.token, lane=lane)
        first = client.futures.first()
        first.add_done_callback(lambda _: None)
        assert chain.entered_first.wait(5)
        # When its successor frees it and then blocks as well
        second = client.futures.second()
        second.add_done_callback(lambda _: None)
        assert chain.entered_second.wait(5)
        # Then a third call is served all the same
        assert courier.with_options(client, timeout_s=5).third() == "served"
        first.result(5)
        second.result(5)
        courier.close(client)
