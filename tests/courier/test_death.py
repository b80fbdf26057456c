"""kill -9 in the middle of a transfer: the survivor hears of it, and nothing is left behind."""

import random
import time
from typing import Any

import numpy as np
import pytest

from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.errors import ConnectionLost
from polling import until

SERVER = """
import sys
from kourou.courier import Server
server = Server(token=sys.argv[1], socket_dir=sys.argv[2])
server.bind("echo", lambda value: value)
server.start()
print(server.address, flush=True)
sys.stdin.read()
"""

CLIENT = """
import sys
import numpy as np
from kourou.courier import Client
client = Client(sys.argv[1], token=sys.argv[2], lane=sys.argv[3])
value = np.zeros(8 << 20, np.uint8)
client.echo(value)
print("up", flush=True)
while True:
    client.echo(value)
"""

LANES = ["local", "grpc"]


def kill_servers(nursery, lane, tmp_path, times):
    chance = random.Random(7)
    value = np.zeros(8 << 20, np.uint8)
    longest = 0.0
    for _ in range(times):
        token = new_token()
        server = nursery.start(SERVER, token, str(tmp_path))
        client = Client(server.stdout.readline().strip(), token=token, lane=lane)
        kept = client.echo(value + 1)
        futures = [client.futures.echo(value) for _ in range(3)]
        time.sleep(chance.uniform(0, 0.02))  # anywhere in the transfer
        server.kill()
        killed = time.monotonic()
        errors = [future.exception(20) for future in futures]
        longest = max(longest, time.monotonic() - killed)
        assert all(error is None or isinstance(error, ConnectionLost) for error in errors)
        assert kept.sum() == kept.size  # what came before stays valid …
        kept[:] = 2  # … and writable
        with server:
            pass  # all calls may have been answered, and nobody can tell that a server is about to be killed
        courier.close(client)
        until(lambda: not list(tmp_path.iterdir()), 20, "the socket of the dead server is gone")
    print(f"{times} servers killed on the {lane} lane: all calls had failed after {longest * 1e3:.0f} ms at the latest")


def kill_clients(nursery, lane, tmp_path, times):
    chance = random.Random(8)
    with Server(token=new_token(), socket_dir=str(tmp_path)) as server:
        server.bind("echo", lambda value: value)
        for _ in range(times):
            with nursery.start(CLIENT, server.address, server.token, lane) as client:
                assert client.stdout.readline()
                time.sleep(chance.uniform(0, 0.02))
                client.kill()
        until(lambda: server.metrics()["echo"].in_flight == 0, 20, "calls of dead clients are gone")
        loop: Any = server._event_loop
        until(lambda: not loop._connections, 20, "connections of dead clients are gone")
        with_another = Client(server.address, token=server.token, lane=lane)
        assert with_another.echo(5) == 5
        courier.close(with_another)
    assert not list(tmp_path.iterdir())


TIMES = pytest.mark.parametrize(
    "times", [3, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["few", "many"]
)


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("lane", LANES)
@TIMES
def test_killed_servers(nursery, lane, tmp_path, times):
    kill_servers(nursery, lane, tmp_path, times)


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("lane", LANES)
@TIMES
def test_killed_clients(nursery, lane, tmp_path, times):
    kill_clients(nursery, lane, tmp_path, times)
