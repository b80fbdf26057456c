"""When a server's host says nothing any more, and when it only seems so. Hosts that are cut off: tests/ssh."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kourou.courier import Client, new_token
from kourou.courier.lanes.grpc import client as grpc
from kourou.courier.lanes.http2 import tcp

pytestmark = pytest.mark.usefixtures("no_leaks")

SERVER = """
import sys, time
from kourou.courier import Server
server = Server(token=sys.argv[1])
server.bind("size", len)
server.bind("sleep", time.sleep)
server.start()
print(server.address, flush=True)
sys.stdin.read()
"""
SILENCE_S = 2
LONGER_S = 2.5 * SILENCE_S


@pytest.fixture
def server(monkeypatch):
    """A server's process, and a client that is soon alarmed."""
    monkeypatch.setattr(tcp, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(grpc.GrpcTransport, "idle_s", 0.2)
    token = new_token()
    command = [sys.executable, "-c", SERVER, token]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with Client(process.stdout.readline().strip(), token=token, lane="grpc") as client:
                yield process, client
        finally:
            process.kill()


def test_a_handler_may_take_longer(server):
    _, client = server
    assert client.sleep(LONGER_S) is None


def test_a_process_may_be_stopped_while_it_is_sent_more_than_there_is_room_for(server):
    process, client = server
    value = np.zeros(64 << 20, np.uint8)
    client.size(value)
    # When
    process.send_signal(signal.SIGSTOP)
    later = threading.Timer(LONGER_S, process.send_signal, [signal.SIGCONT])
    later.start()
    started = time.monotonic()
    # Then
    assert client.size(value) == value.size
    assert time.monotonic() - started > LONGER_S / 2
    later.join()


def test_an_idle_connection_stays(server):
    _, client = server
    client.size(b"")
    connection = client._link.connection
    time.sleep(LONGER_S)  # likewise
    assert client._link.connection is connection is not None
