"""Inserts of 40 kB into a full table of Reverb's: run it by the Python that has it.

    PYTHON replay_steady.py ITEMS      fills a table of so many items three times over, then measures

Server and client are processes of their own. Prints one JSON line, as ``benchmarks/replay.py`` does.
"""

import importlib
import json
import subprocess
import sys
import time
from typing import Any

FLOATS = 10_000
COUNT = 3_000
FILLED_TIMES = 3


def serve(items: int) -> None:
    """Print the port, then serve."""
    reverb: Any = importlib.import_module("reverb")
    table = reverb.Table(
        "full", reverb.selectors.Uniform(), reverb.selectors.Fifo(), items, reverb.rate_limiters.MinSize(1)
    )
    server = reverb.Server(tables=[table])
    print(server.port, flush=True)
    server.wait()


def insert(writer: Any, step: Any, count: int) -> float:
    """Insert items of one step each; seconds until the server has all of them."""
    start = time.perf_counter()
    for _ in range(count):
        writer.append({"o": step})
        writer.create_item("full", 1.0, {"o": writer.history["o"][-1:]})
    writer.flush()
    return time.perf_counter() - start


def main(items: int) -> None:
    """Start a server, fill its table, measure."""
    reverb: Any = importlib.import_module("reverb")
    numpy: Any = importlib.import_module("numpy")
    step = numpy.random.default_rng(0).random(FLOATS, numpy.float32)
    command = [sys.executable, __file__, "serve", str(items)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = next(line.strip() for line in server.stdout if line.strip().isdigit())
        try:
            with reverb.Client(f"localhost:{port}").trajectory_writer(num_keep_alive_refs=1) as writer:
                insert(writer, step, FILLED_TIMES * items)
                rate = COUNT / insert(writer, step, COUNT)
            print(json.dumps({"metric": "replay.insert_40kB_steady_per_s", "value": round(rate, 3)}), flush=True)
        finally:
            server.kill()


if __name__ == "__main__":
    serve(int(sys.argv[2])) if sys.argv[1] == "serve" else main(int(sys.argv[1]))
