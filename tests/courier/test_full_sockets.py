"""More is sent than the sockets hold: nobody waits for somebody who waits for them."""

import signal
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import pytest

from kourou import courier
from kourou.courier import Client, new_token
from kourou.errors import RpcError
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
PIECE = b"x" * 3000  # below what is gathered, and below what goes through shared memory


class ServerProcess(NamedTuple):
    process: Any
    address: str
    token: str


@pytest.fixture
def server(tmp_path, no_leaks):
    token = new_token()
    command = [sys.executable, "-c", SERVER, token, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield ServerProcess(process, process.stdout.readline().strip(), token)
        process.kill()


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_a_server_that_dies_while_its_socket_is_full_frees_those_who_write(server, lane):
    # Given a server that is stopped, and a client whose thread sends until no more fits
    client = Client(server.address, token=server.token, lane=lane)
    assert client.echo(1) == 1
    server.process.send_signal(signal.SIGSTOP)
    futures, enough = [], threading.Event()

    def flood():
        while not enough.is_set():
            futures.append(client.futures.echo(PIECE))

    thread = threading.Thread(target=flood)
    thread.start()
    until(lambda: len(futures) > 20, 20, "calls are sent")
    seen = [-1]

    def full():
        before, seen[0] = seen[0], len(futures)
        return before == seen[0]

    until(full, 20, "no more fits into the socket")
    # When the server is killed
    server.process.kill()
    # Then the thread goes on, the calls in flight fail, and those that wait for a connection do so when there is an end
    until(lambda: len(futures) > seen[0], 20, "the writer is free")
    enough.set()
    thread.join(20)
    assert not thread.is_alive()
    courier.close(client)
    ends = [future.exception(20) for future in futures]
    assert all(end is None or isinstance(end, RpcError) for end in ends)
    assert isinstance(ends[-1], RpcError)


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_threads_that_send_much_and_read_late_do_not_lock_each_other_out(server, lane):
    # Given several threads that send far more than sockets hold before they look at an answer, while one reads
    client = Client(server.address, token=server.token, lane=lane)
    failures = []

    def flood():
        try:
            futures = [client.futures.echo(PIECE) for _ in range(4000)]
            assert all(client.echo(number) == number for number in range(50))
            assert all(future.result(50) == PIECE for future in futures)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    # When, then
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures
    courier.close(client)


def test_whoever_waits_for_room_in_a_connection_that_another_thread_closes_is_told_that_it_is_gone(server):
    client = Client(server.address, token=server.token, lane="grpc")
    assert client.echo(1) == 1
    link: Any = client._link
    stream = link.connection.transport._main
    courier.close(client)
    with pytest.raises(ConnectionResetError):
        stream._wait_for_room(is_full=True)
