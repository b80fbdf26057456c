"""Code that interrupts its own thread in the midst of a call: signal handlers, and finalisers that the collector runs.

Whatever that thread was about to do, a new call is answered, and what would wait for the thread itself is an error.
"""

import contextlib
import functools
import gc
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.wire.frames import Kind
from kourou.errors import RpcError
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

LANES = ["inproc", "local", "grpc"]
SERVER = """
import sys, time
from kourou.courier import Server

def count(n):
    yield from range(n)

def serve():
    server = Server(token="t")
    server.bind("echo", lambda value: value)
    server.bind("sleep", time.sleep)
    server.bind("count", count)
    server.start()
    return server

if __name__ == "__main__":
    print(serve().address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=LANES)
def client(request, nursery):
    """A client of a server in another process, or, for the lane within one process, in this one."""
    with contextlib.ExitStack() as stack:
        if request.param == "inproc":
            names = {"__name__": "served"}
            exec(SERVER, names)
            server: Server = names["serve"]()  # type: ignore[operator]
            stack.callback(server.stop)
            address = server.address
        else:
            process = stack.enter_context(nursery.start(SERVER))
            stack.callback(process.kill)
            address = process.stdout.readline().strip()
        made = Client(address, token="t", lane=request.param, timeout_s=20)
        stack.callback(courier.close, made)
        yield made


@contextlib.contextmanager
def on_alarm(handler, every_s):
    """Interrupt the main thread every so many seconds. (SIGALRM belongs to what ends tests that hang.)"""
    main = threading.get_ident()
    over, handled = threading.Event(), threading.Event()

    def alarm():
        while not over.wait(every_s):
            handled.clear()
            signal.pthread_kill(main, signal.SIGUSR1)
            handled.wait(20)  # handlers that interrupt each other for ever leave no time for the work

    def handle(*_):
        try:
            handler()
        finally:
            handled.set()

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=alarm)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def work(client, rounds):
    """Calls of all kinds."""
    array = np.arange(50_000)
    for number in range(rounds):
        assert client.echo(number) == number
        futures = [client.futures.echo(number) for number in range(20)]
        assert [future.result() for future in futures] == list(range(20))
        assert client.echo(array).sum() == array.sum()
        assert sum(client.count(40)) == 780
        client.futures.echo(1).cancel()
        assert [client.futures.echo(n).done() for n in range(3)]


def test_a_call_from_a_signal_handler_is_answered_while_its_thread_is_in_a_call(client):
    # given a thread in a call that takes its time
    heard = []

    def handler():
        heard.append((client.echo(1), client.futures.echo("x").result(20)))

    client.echo(0)  # all is imported
    # when signals interrupt it
    with on_alarm(handler, 0.02):
        client.sleep(0.3)
    # then their handlers' calls are answered meanwhile
    assert len(heard) > 3
    assert set(heard) == {(1, "x")}


def test_signal_handlers_may_call_at_any_moment(client):
    # given handlers that call, come what may
    heard = []

    def handler():
        heard.append(client.echo("from the handler"))
        client.futures.echo(2)

    # when they interrupt calls of all kinds
    with on_alarm(handler, 0.003):
        work(client, 60)
        until(lambda: client.echo(len(heard)) > 10, 20, "handlers have called")
    # then all are answered
    assert set(heard) == {"from the handler"}


def test_the_first_call_may_be_interrupted_while_it_connects(client):
    assert client.echo(0) == 0  # all is imported
    heard: list[int] = []
    with on_alarm(lambda: heard.append(client.echo(len(heard))), 0.002):
        for number in range(5):
            assert client.echo(2) == 2
            until(functools.partial(heard.__contains__, number), 20, "a handler has called")
            courier.disconnect(client)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_finalisers_may_call_wherever_the_garbage_collector_runs_them(client):
    # given garbage whose finalisers call
    heard, inside = [], threading.local()

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            if not getattr(inside, "busy", False):
                inside.busy = True
                try:
                    heard.append(client.echo("from the finaliser"))
                finally:
                    inside.busy = False

    before = gc.get_threshold()
    gc.set_threshold(3)
    # when the collector runs in the midst of calls
    try:
        for _ in range(15):
            Garbage()
            work(client, 1)
    finally:
        gc.set_threshold(*before)
        gc.collect()
    # then all are answered
    assert heard
    assert set(heard) == {"from the finaliser"}


@pytest.mark.parametrize("client", ["local", "grpc"], indirect=True)
def test_what_would_wait_for_its_own_thread_never_hangs(client):
    # given a thread that reads the answers of a client, and a future of the same client
    slow = client.futures.sleep(0.5)
    told: list[object] = []

    def handler():
        try:
            told.append(slow.result())
        except RpcError as error:  # unless the background thread happens to read
            told.append("has interrupted its own thread" in str(error))

    # when a handler that interrupts it asks for that future
    with on_alarm(handler, 0.1):
        client.sleep(0.15)
    # then it is told at once, and the future is answered afterwards
    assert told
    assert set(told) <= {True, None}
    assert slow.result() is None


def test_a_client_may_be_closed_by_a_signal_handler_in_the_midst_of_its_calls(client):
    with on_alarm(lambda: courier.close(client), 0.05), pytest.raises(RpcError, match="closed"):
        work(client, 1_000_000)


FORKING = """
import os, sys
from kourou.courier import Client
from kourou.errors import UsedAfterFork

client = Client(sys.argv[1], token="t", lane=sys.argv[2])
client.echo(1)
future = client.futures.sleep(0.2)
pid = os.fork()
if pid == 0:
    try:
        future.result(20)
    except UsedAfterFork:
        os._exit(0)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert future.result() is None
"""


@pytest.mark.parametrize("client", ["local", "grpc"], indirect=True)
def test_a_future_is_not_waited_for_in_a_child_of_fork(client):
    client.echo(1)
    command = [sys.executable, "-c", FORKING, courier.address(client), str(courier.lane(client))]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_code_that_interrupts_its_thread_leaves_cancelling_to_another(client, monkeypatch):
    # given a call in flight, and a thread that is in the midst of a write, with the locks that this takes
    client.echo(0)
    pending = client.futures.sleep(0.2)
    link = client._link
    connection = link.connection
    sent_by = []
    send = connection.transport.send

    def noting(frame, **options):
        sent_by.append((frame.kind, threading.get_ident()))
        send(frame, **options)

    monkeypatch.setattr(connection.transport, "send", noting)
    link._inside.add(threading.get_ident())
    # when a finaliser cancels in that very thread
    try:
        assert pending.cancel()
    finally:
        link._inside.discard(threading.get_ident())
    # then it sends nothing itself, and the server is told all the same
    until(lambda: sent_by, 20)
    assert [kind for kind, _ in sent_by] == [Kind.CANCEL]
    assert sent_by[0][1] != threading.get_ident()
