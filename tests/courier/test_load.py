"""Many clients, many calls, mixed sizes: nothing is lost, and memory does not grow."""

import gc

import numpy as np
import psutil
import pytest

from kourou import courier
from kourou.courier import Client, Server, new_token

CLIENT = """
import sys
from kourou.courier import Client
client = Client(sys.argv[1], token=sys.argv[2], lane=sys.argv[3])
total = 0
for _ in range(int(sys.argv[4])):
    total += sum(future.result() for future in [client.futures.add(1) for _ in range(50)])
print(total)
"""


@pytest.mark.parametrize("lane", ["local", "grpc"])
@pytest.mark.parametrize("windows", [20, pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_eight_processes_call_one_server(nursery, lane, windows):
    with Server(token=new_token()) as server:
        server.bind("add", lambda number: number)
        clients = [nursery.start(CLIENT, server.address, server.token, lane, str(windows)) for _ in range(8)]
        for client in clients:
            assert int(client.communicate(timeout=250)) == 50 * windows
        assert server.metrics()["add"].calls == 8 * 50 * windows


@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
@pytest.mark.parametrize("rounds", [300, pytest.param(16_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def test_memory_stays_flat(lane, rounds):
    sizes = [0, 100, 10_000, 100_000, 1_000_000]
    arrays = [np.ones(size, np.uint8) for size in sizes]
    process = psutil.Process()
    with Server(token=new_token()) as server:
        server.bind("echo", lambda value: value)
        client = Client(server.address, token=server.token, lane=lane)

        def work(count):
            for step in range(count):
                array = arrays[step % len(arrays)]
                for future in [client.futures.echo(step) for _ in range(10)]:
                    assert future.result() == step
                assert client.echo(array).size == array.size

        work(100)
        gc.collect()
        before = process.memory_info().rss
        work(rounds)
        gc.collect()
        assert process.memory_info().rss - before < 48 << 20
        courier.close(client)
