"""What type checkers say of clients. A line with an error ends in ``# error``; all others have none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from typing_extensions import assert_type

import kourou as lp
from kourou import replay, spmd


class Counter:
    def add(self, amount: int, *, twice: bool = False) -> int:
        return amount * (1 + twice)

    def history(self) -> Iterator[str]:
        yield "nothing"

    async def fetch(self, name: str) -> bytes:
        return name.encode()

    @lp.batched_handler(batch_size=8)
    def act(self, observation: float) -> bool:
        return observation > 0


class Reader:
    """A node that is given a handle gets a client, and writes what it calls as the type."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def run(self) -> None:
        assert_type(self._counter.add(1), int)
        self._counter.ad(1)  # error


def train(counter: Counter) -> None:
    counter.add("1")  # error


program = lp.Program("typed")
node = lp.CourierNode(Counter)
assert_type(node, lp.CourierNode[Counter])
handle = program.add_node(node, label="counter")
assert_type(handle, lp.CourierHandle[Counter])
anywhere: lp.Handle[Counter] = handle
wrong: lp.Handle[Reader] = handle  # error
program.add_node(lp.PyClassNode(Reader, handle), label="reader")
program.add_node(lp.PyNode(train, handle), label="train")
program.add_node("counter")  # error
program.add_node(Counter())  # error

# Methods
client = handle.dereference()
assert_type(client.add(1), int)
assert_type(client.add(1, twice=True), int)
assert_type(client.history(), Iterator[str])
assert_type(client.act(1.0), bool)
client.ad(1)  # error
client.add("1")  # error
client.add(1, thrice=True)  # error
client.act("1")  # error
handle.add(1)  # error
assert_type(lp.maybe_dereference(handle), Counter)

# Futures
assert_type(lp.courier.submit(client.add, 1), Future[int])
assert_type(lp.courier.submit(client.fetch, "name"), Future[bytes])
assert_type(lp.courier.submit(client.act, 1.0), Future[bool])
lp.courier.submit(client.ad, 1)  # error
lp.courier.submit(client.add, "1")  # error
lp.courier.submit(client.add)  # error
client.futures.add(1)  # error
assert_type(lp.courier.futures(client).add(1), Future[Any])
assert_type(lp.courier.futures(client)(1), Future[Any])
lp.courier.futures(client).add(1).reslut()  # error

# In coroutines


async def ask() -> None:
    assert_type(await lp.aio.call(client.add, 1), int)
    assert_type(await lp.aio.call(client.fetch, "name"), bytes)
    await lp.aio.call(client.add, "1")  # error
    async for line in lp.aio.stream(client.history):
        assert_type(line, str)
    lp.aio.stream(client.add, 1)  # error
    await lp.aio.Client(handle).add(1)
    lp.aio.Client()  # error


# What concerns the client itself
assert_type(lp.courier.with_options(client, timeout_s=1), Counter)
assert_type(lp.courier.list_methods(client), list[str])
lp.courier.close(client)
with client:  # error
    pass
with lp.courier.closing(client) as still:
    assert_type(still, Counter)
    still.ad(1)  # error

# Other projects' names of arguments leave signatures as they are
assert_type(lp.courier.Client("host:1", timeout_s=1), lp.courier.Client)
lp.courier.Client("host:1", timeout_s="1")  # error
lp.courier.Client("host:1", call_timeout=1)  # error
assert_type(lp.wait_for_stop(timeout_s=1), bool)
lp.wait_for_stop("1")  # error
assert_type(spmd.Launcher(worker_timeout_s=1).run(max, 1, 2).rank(0), int)
spmd.Launcher(worker_timeout_s="1")  # error


# A function in a class's place
def make_counter(start: int) -> Counter:
    del start
    return Counter()


made = program.add_node(lp.CourierNode(make_counter, 1), label="made").dereference()
assert_type(made.add(1), int)
made.ad(1)  # error

# A node that stands for another
cached = program.add_node(lp.CacherNode(handle, 100, 1000), label="cached").dereference()
assert_type(cached.add(1), int)
cached.ad(1)  # error

# A handle of a node that is added later
later: lp.Handle[Counter] = program.handle_to("counter")
assert_type(later.dereference().add(1), int)
later.dereference().ad(1)  # error

# Nodes that answer no calls
silent = program.add_node(lp.PyNode(train, handle), label="silent")
silent.dereference().add(1)  # error

# Many at once
actors = lp.broadcast([handle, client], timeout_s=1)
results: list[object] = actors.add(1)
lp.broadcast(handle)  # error

# Ranks
ranks = program.add_node(lp.TorchNode(Counter, 2), label="ranks").dereference()
assert_type(ranks.ranks[1].add(1), int)
ranks.ranks[1].ad(1)  # error


# Replay
def make_tables() -> list[replay.Table]:
    return []


buffer = program.add_node(lp.ReplayNode(make_tables), label="replay").dereference()
assert_type(buffer, replay.Client)
assert_type(buffer.insert({"x": 1}, {"uniform": 1.0}), dict[str, int])
buffer.insrt({"x": 1}, {"uniform": 1.0})  # error
buffers = program.add_node(lp.ReplayGroup(2, make_tables), label="replays").dereference()
assert_type(buffers, replay.GroupClient)


# A node type of one's own
class WebClient:
    def get(self, page: str) -> bytes:
        return page.encode()


class WebHandle(lp.Handle[WebClient]):
    def make_client(self, target: lp.NodeTarget) -> WebClient:
        target.address()
        return WebClient()


class WebNode(lp.Node):
    def create_handle(self) -> WebHandle:
        return WebHandle(self)

    def run(self, context: lp.NodeContext) -> None:
        context.stop.event.wait()


web = program.add_node(WebNode(), label="web")
assert_type(web, WebHandle)
assert_type(web.dereference().get("index"), bytes)
web.dereference().got("index")  # error
