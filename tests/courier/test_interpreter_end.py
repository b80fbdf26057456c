"""What outlives its modules at the interpreter's end says nothing there."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from kourou import replay
from kourou.courier import Server

SCRIPT = """
import codecs
import sys
import numpy as np
from kourou import replay
from kourou.courier import Client

def streamed(client):
    numbers = client.count()
    assert next(numbers) == 0
    return numbers

address, token, tables = sys.argv[1:]
clients = [Client(address, token=token, lane=lane) for lane in ("local", "grpc")]
writer = replay.Client(tables, token=token).trajectory_writer(num_keep_alive_refs=1)
writer.append({"o": np.zeros(10_000, np.float32)})
# The interpreter empties the modules that are still there in the reverse order of their imports.
codecs.modules = dict(sys.modules)
codecs.kept = [clients, [client.array() for client in clients], [streamed(client) for client in clients], writer]
"""


class Numbers:
    def array(self):
        return np.zeros(1 << 20, np.uint8)

    def count(self):
        yield from range(1000)


def test_objects_that_die_last_find_their_names_gone_and_say_nothing():
    # Given objects with finalizers
    table = replay.Table("t", replay.selectors.Uniform(), replay.selectors.Fifo(), 10, replay.rate_limiters.MinSize(1))
    with Server() as server, replay.Server([table], token=server.token) as tables:
        server.bind_object(Numbers())
        command = [sys.executable, "-c", SCRIPT, f"127.0.0.1:{server.port}", server.token, tables.address]
        # When the interpreter ends before they do
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # Then nobody reads of it
    assert (ended.returncode, ended.stderr) == (0, "")
