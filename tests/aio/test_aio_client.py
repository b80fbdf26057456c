"""``lp.aio.Client``: what is awaited is covered by the lanes' contract; here is what the client itself does."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import Future

import pytest

import kourou as lp
from kourou import courier

pytestmark = pytest.mark.usefixtures("no_leaks")


class Counter:
    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total

    async def later(self, value):
        await asyncio.sleep(0)
        return value

    def rows(self, count):
        yield from range(count)

    async def rows_later(self, count):
        for row in range(count):
            yield row

    def __call__(self):
        return self.total


@pytest.fixture
def server():
    with courier.Server("counter") as made:
        made.bind_object(Counter())
        yield made


def test_methods_are_awaited_and_generators_gone_through(server):
    async def work():
        async with lp.aio.Client(server.address) as client:
            assert await client.add(1) == 1
            assert [*await asyncio.gather(client.later(1), client.later(2))] == [1, 2]
            assert await client() == 1
            rows = [row async for row in client.rows(3)]
            return rows + [row async for row in client.rows_later(3)]

    assert asyncio.run(work()) == [0, 1, 2, 0, 1, 2]


def test_a_client_is_made_of_another_and_leaves_it_open(server):
    with courier.Client(server.address) as client:

        async def work():
            async with lp.aio.Client(client, timeout_s=20) as made:
                return await made.add(2)

        assert [asyncio.run(work()), asyncio.run(work())] == [2, 4]
        assert client.add(1) == 5
        assert "asynchronous client of 127.0.0.1" in repr(lp.aio.Client(client))


def test_it_travels(server):
    async def work():
        async with lp.aio.Client(server.address) as client:
            copy = pickle.loads(pickle.dumps(client))
            try:
                return await copy.add(3)
            finally:
                courier.close(copy._client)

    assert asyncio.run(work()) == 3


def test_typed_calls(server):
    with courier.Client(server.address) as client:

        async def work():
            assert await lp.aio.call(client.add, 4) == 4
            assert await lp.aio.call(client.later, 5) == 5
            return [row async for row in lp.aio.stream(client.rows_later, 2)]

        assert asyncio.run(work()) == [0, 1]


@pytest.mark.parametrize("target", [None, Counter(), Future()])
def test_what_cannot_be_called_is_refused(target):
    with pytest.raises(TypeError, match="a handle or a client of a CourierNode, or an address"):
        lp.aio.Client(target)


def test_methods_of_the_node_are_listed_and_python_s_own_probes_are_no_calls(server):
    with courier.Client(server.address, interface=Counter) as client:
        made = lp.aio.Client(client)
        assert {"add", "later", "rows"} <= set(dir(made))
        assert not hasattr(made, "_ipython_display_")
