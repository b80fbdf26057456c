"""50 MB of weights to 8 readers, by a system that kourou is compared with: run it by that system's Python.

    PYTHON weights_readers.py ray       ``put``, and a call of each actor, which copies it into an array of its own
    PYTHON weights_readers.py torchrl   SharedMemWeightSyncScheme; readers use the shared memory itself

Prints JSON lines of the metrics of ``benchmarks/weights.py``.
"""

import importlib
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

READERS = 8
PARTS = 16
FLOATS = 50_000_000 // 8 // PARTS
ROUNDS = 15
WARM_UP = 3


def measure(metric: str, update: Callable[[], object]) -> None:
    """Update again and again; each call returns when all readers have the weights."""
    times = []
    for _ in range(ROUNDS + WARM_UP):
        start = time.perf_counter()
        update()
        times.append(1e3 * (time.perf_counter() - start))
    value = round(statistics.median(times[WARM_UP:]), 3)
    print(json.dumps({"metric": metric, "value": value}), flush=True)


def ray() -> None:
    """Ray: the object store holds a version, actors map it and copy it."""
    numpy: Any = importlib.import_module("numpy")
    peer: Any = importlib.import_module("ray")

    class Reader:
        def __init__(self) -> None:
            self.own = numpy.zeros(PARTS * FLOATS)

        def load(self, weights: Any) -> None:
            numpy.concatenate(weights, out=self.own)

        def get(self, weights: Any) -> None:
            pass

    peer.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=2 << 30)
    actors = [peer.remote(num_cpus=0)(Reader).remote() for _ in range(READERS)]
    weights = [numpy.full(FLOATS, part, numpy.float64) for part in range(PARTS)]

    def update(method: str) -> None:
        reference = peer.put(weights)
        peer.get([getattr(actor, method).remote(reference) for actor in actors])

    measure("weights.map_50MB_8_ms", lambda: update("get"))
    measure("weights.publish_50MB_8_ms", lambda: update("load"))
    peer.shutdown()


def model() -> Any:
    """Torch's model of that size."""
    torch: Any = importlib.import_module("torch")
    parts = [torch.nn.Linear(FLOATS, 1, bias=False, dtype=torch.float64) for _ in range(PARTS)]
    return torch.nn.Sequential(*parts)


def read(scheme: Any, index: int, pipe: Any) -> None:
    """Be one of TorchRL's readers until told otherwise."""
    scheme.init_on_receiver(model_id="policy", model=model(), worker_idx=index)
    pipe.send(None)
    scheme.connect(worker_idx=index)
    pipe.recv()
    scheme.shutdown()


def torchrl() -> None:
    """TorchRL: parameters are written in place into shared memory, and readers are told."""
    torch: Any = importlib.import_module("torch")
    weight_update: Any = importlib.import_module("torchrl.weight_update")
    tensordict: Any = importlib.import_module("tensordict")
    spawn = multiprocessing.get_context("spawn")
    scheme = weight_update.SharedMemWeightSyncScheme(strategy="tensordict")
    weights = tensordict.TensorDict.from_module(model()).data
    scheme.init_on_sender(
        model_id="policy", weights=weights, devices=[torch.device("cpu")] * READERS, num_workers=READERS, ctx=spawn
    )
    pipes, processes = [], []
    for index in range(READERS):
        ours, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=read, args=(scheme, index, theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    scheme.connect()
    measure("weights.map_50MB_8_ms", lambda: scheme.send(weights))
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join()


if __name__ == "__main__":
    {"ray": ray, "torchrl": torchrl}[sys.argv[1]]()
