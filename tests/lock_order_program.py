"""Takes most of kourou's locks in one process, and writes which are taken in which: ``lock_order_program.py FILE``."""

from __future__ import annotations

import sys

import lock_order

lock_order.install(sys.argv[1])

import numpy as np  # noqa: E402 - see above

import kourou as lp  # noqa: E402 - see above
from kourou import courier, replay  # noqa: E402 - see above

TOKEN = "token"


class Target:
    def echo(self, value):
        return value

    def items(self, count):
        yield from range(count)

    @lp.batched_handler(batch_size=2)
    def double(self, values):
        return values * 2

    async def later(self, value):
        return value


def tables():
    return [replay.Table.queue("queue", 100)]


def insert(client):
    with client.trajectory_writer(2) as writer:
        for step in range(5):
            writer.append({"step": np.array(step)})
            writer.create_item("queue", 1.0, {"step": writer.history["step"][-1:]})
        writer.flush()
    client.insert({"step": np.array(5)}, {"queue": 1.0})


def sample(client, server):
    assert server.futures.echo(1).result() == 1
    assert [int(sample.data["step"].sum()) for sample in client.sample("queue", 6)] == [0, 1, 2, 3, 4, 5]
    lp.stop()


if __name__ == "__main__":
    with courier.Server(token=TOKEN) as server:
        server.bind_object(Target())
        for lane in ("inproc", "local", "grpc"):
            with courier.Client(server.address, lane=lane, token=TOKEN) as client:
                assert client.echo(1) == client.futures.later(1).result() == 1
                assert client.double(np.ones(1)).tolist() == [2]
                assert list(client.items(100)) == list(range(100))
                assert client.echo(np.zeros(1 << 18)).nbytes == 1 << 21
    program = lp.Program("locks")
    table = program.add_node(lp.ReplayNode(tables), label="replay")
    program.add_node(lp.PyNode(insert, table), label="insert")
    program.add_node(lp.PyNode(sample, table, program.add_node(lp.CourierNode(Target), label="server")), label="sample")
    lp.launch(program, "local_mt").wait()
