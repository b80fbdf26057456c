"""Futures of calls: who unpickles what came, and what one call's trouble means for others."""

import concurrent.futures
import threading

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.errors import DeadlineExceeded
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

GATE = threading.Event()
ENTERED = threading.Event()
ASKED = threading.Event()


class Slow:
    """Takes its time to unpickle."""

    def __reduce__(self):
        return _open_gate, ()


def _open_gate():
    ENTERED.set()
    assert GATE.wait(20)
    return "slow"


@pytest.fixture
def client():
    GATE.clear()
    ENTERED.clear()
    ASKED.clear()
    with Server("s", token="t") as server, Client(server.address, token="t", lane="local", timeout_s=20) as made:
        server.bind("echo", lambda value: value)
        server.bind("slow", lambda: ASKED.wait(20) and Slow())
        yield made
        GATE.set()


def test_an_answer_that_is_slow_to_unpickle_holds_up_nobody_else(client):
    # given a thread, and a callback, that unpickle an answer which takes its time
    got = []
    thread = threading.Thread(target=lambda: got.append(client.slow()))
    thread.start()
    watched = client.futures.slow()
    watched.add_done_callback(lambda future: got.append(future.result()))  # before the answer: else it is called here
    ASKED.set()
    assert ENTERED.wait(20)
    # when others call, then they are answered, and the deadlines of futures hold
    assert client.echo(1) == 1
    assert client.futures.echo(2).result() == 2
    assert got == []
    # and everybody has the slow answer in the end
    GATE.set()
    thread.join(20)
    until(lambda: got == ["slow", "slow"], 20)


def test_all_who_ask_a_future_get_the_same_object(client):
    future = client.futures.echo([1])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: future.result(), range(32)))
    assert {id(one) for one in got} == {id(future.result())}
    done, _ = concurrent.futures.wait([future])
    assert done == {future}


def test_a_call_that_cannot_be_sent_does_not_hold_up_those_behind_it():
    # given a client that has not connected, and calls that wait for that, one of which makes no frame
    with Server("s", token="t") as server, Client(server.address, token="t", lane="local", timeout_s=20) as client:
        server.bind("echo", lambda value: value)
        # when they are sent
        bad = getattr(client.futures, "\ud800")()
        good = client.futures.echo(1)
        # then the bad one fails for itself
        assert isinstance(bad.exception(20), UnicodeEncodeError)
        assert good.result(20) == 1
        assert client.echo(2) == 2


def test_of_calls_that_wait_for_a_connection_each_has_its_own_deadline():
    # given a server that is not there, a call that waits for ever, and one behind it that does not
    client = Client("127.0.0.1:1", token="t", lane="grpc")
    with client:
        patient = client.futures.echo(1)
        told = []
        courier.with_options(client, timeout_s=0.3).futures.echo(2).add_done_callback(
            lambda future: told.append(future.exception())
        )
        # then its callback hears of its deadline
        until(lambda: told, 20)
        assert isinstance(told[0], DeadlineExceeded)
        assert not patient.done()
