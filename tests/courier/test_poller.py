"""Waiting for sockets, also where there is no epoll."""

from __future__ import annotations

import select
import socket

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.lanes.loop import event_loop, poller
from kourou.errors import LaunchError

pytestmark = pytest.mark.usefixtures("no_leaks")

MAKERS = [poller.new_poller, poller._SelectPoll]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_ready_is_said(make):
    # Given a socket that is watched for news
    ready = make()
    here, there = socket.socketpair()
    with here, there:
        ready.register(here.fileno(), select.POLLIN)
        assert [event for _ in range(3) for event in ready.poll(0)] == []
        # When some come, and when there is room to write
        there.send(b"x")
        assert ready.poll(-1) == [(here.fileno(), select.POLLIN)]
        ready.modify(here.fileno(), select.POLLIN | select.POLLOUT)
        assert ready.poll(5) == [(here.fileno(), select.POLLIN | select.POLLOUT)]
        # Then that is said, and no more once it is not watched
        ready.unregister(here.fileno())
        assert ready.poll(0.01) == []
    ready.close()


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_a_server_works_without_epoll(lane, monkeypatch):
    monkeypatch.setattr(event_loop, "new_poller", poller._SelectPoll)
    with Server(token="t") as server:
        server.bind("echo", lambda value: value)
        client = Client(server.address, token="t", lane=lane, timeout_s=20)
        for value in (1, b"x" * 3_000_000, [future.result() for future in [client.futures.echo(n) for n in range(99)]]):
            assert client.echo(value) == value
        courier.close(client)
        again = Client(server.address, token="t", lane=lane, timeout_s=20)
        assert again.echo(2) == 2
        courier.close(again)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has it")
def test_a_process_that_gevent_has_patched_is_told_so(monkeypatch):
    monkeypatch.delattr(select, "epoll")
    with pytest.raises(LaunchError, match="use kourou in one that is not patched"):
        poller.new_poller()
