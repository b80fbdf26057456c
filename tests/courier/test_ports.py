"""Servers on a port of their own: who keeps them from it, and what is said then."""

from __future__ import annotations

import functools
import os
import socket
import threading
from pathlib import Path

import pytest

from kourou.courier import Server
from kourou.courier.lanes import ports
from kourou.courier.lanes.http2 import tcp
from kourou.errors import LaunchError

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_port_that_is_taken_is_waited_for() -> None:
    # given a server whose predecessor is not quite gone
    held = socket.create_server(("127.0.0.1", 0))
    port = held.getsockname()[1]
    end = threading.Timer(0.2, held.close)
    end.start()
    # when it starts, then it has the port
    with Server(port=port) as server:
        assert server.port == port
    end.join()


def test_who_has_a_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_TAKEN_TIMEOUT_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as held:
        # given a port that somebody listens on, then that process is named
        port = held.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"on 127.0.0.1:{port}: .* by process {os.getpid()} \(.*\): it listens"):
            Server(port=port).start()
        # given the port of a connection, then its process is named
        connection = socket.create_connection(("127.0.0.1", port))
        accepted, peer = held.accept()
        with pytest.raises(LaunchError, match=rf"process {os.getpid()} \(.*\): a connection"):
            Server(port=peer[1]).start()
        # given that it has ended, then that is said
        connection.close()
        accepted.close()
        with pytest.raises(LaunchError, match="a connection that has ended"):
            Server(port=peer[1]).start()


@pytest.mark.parametrize(("given_away", "is_told"), [("32768 60999", False), ("1 65535", True), ("", False)])
def test_a_port_that_the_system_gives_away_is_told_from_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given_away: str, is_told: bool
) -> None:
    table = tmp_path / "range"
    table.write_text(given_away)
    monkeypatch.setattr(ports, "_GIVEN_AWAY", table)
    assert ("The system gives the ports" in ports._advice(8000)) == is_told


def test_a_client_that_reaches_itself_reaches_nobody_and_frees_the_port() -> None:
    # given a port on which nobody listens
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    # when the system gives a client that port for its own end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", functools.partial(socket.create_connection, source_address=address))
        with pytest.raises(ConnectionRefusedError):
            tcp.connect(f"{address[0]}:{address[1]}", 5.0, None)
    # then a server can have it at once
    with socket.create_server(address):
        pass
