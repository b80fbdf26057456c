"""What the tests run in workers; imported there by name."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kourou as lp
from optional import optional

if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.distributed as dist
else:
    np = optional("numpy")
    torch = optional("torch")
    dist = optional("torch.distributed")

FOREVER_S = 600


def backend() -> str:
    sum_of_ranks()
    return str(dist.get_backend())


def log_rank(step: int) -> None:
    lp.log(step, rank=int(os.environ["RANK"]))


def draw() -> tuple[float, ...]:
    numpys = float(np.random.rand())
    return random.random(), numpys, float(torch.rand(())), float(torch.initial_seed())


def sum_of_ranks() -> tuple[int, float]:
    total = torch.tensor([float(dist.get_rank())])
    dist.all_reduce(total)
    return dist.get_rank(), total.item()


def variables(*names: str) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def environment() -> dict[str, str]:
    return dict(os.environ)


def pid() -> int:
    return os.getpid()


def parent() -> int:
    return os.getppid()


def finalizers() -> set[str]:
    """The modules whose finalizers wait for the end of this process."""
    return {told.func.__module__ for told in weakref.finalize._registry.values()}  # type: ignore[attr-defined]


async def rank_in_time() -> int:
    await asyncio.sleep(0)
    return rank()


def ranks_one_by_one() -> Iterator[int]:
    yield rank()


def rank() -> int:
    return int(os.environ["RANK"])


def fail_in_a_collective() -> None:
    if dist.get_rank() == 1:
        raise ValueError("rank one has had enough")
    dist.barrier()


def stay_away(path: Path) -> None:
    if dist.get_rank() == 1:
        path.touch()
        time.sleep(3600)
    dist.barrier()


class OddError(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code


def raise_odd_error() -> None:
    raise OddError(7, detail="odd")


def die(how: str) -> None:
    """In a collective, rank 1 leaves in one of many ways."""
    if dist.get_rank() == 1:
        print("last words", file=sys.stderr)
        if how == "SIGSEGV":
            ctypes.string_at(0)
        elif how.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, how))
        elif how.startswith("os._exit"):
            os._exit(int(how[9:-1]))
        else:
            sys.exit(int(how[9:-1]))
    dist.barrier()


def die_with_grandchild(path: Path) -> None:
    if rank() == 0:
        child = subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=True)
        path.write_text(str(child.pid), encoding="ascii")
    else:
        while not path.exists():
            time.sleep(0.01)
        os._exit(5)
    time.sleep(FOREVER_S)


def announce_and_wait(folder: Path) -> None:
    (folder / f"{rank()}.pid").write_text(str(os.getpid()), encoding="ascii")
    time.sleep(FOREVER_S)


def announce_and_wait_once(folder: Path) -> int:
    """In the first attempt this lasts until somebody ends it."""
    if not (folder / f"{rank()}.pid").exists():
        announce_and_wait(folder)
    return rank()


def fail_until(path: Path, attempts: int) -> int:
    """Rank 0 is killed in its first attempts."""
    if rank() == 0:
        tried = int(path.read_text(encoding="ascii")) if path.exists() else 0
        path.write_text(str(tried + 1), encoding="ascii")
        if tried + 1 < attempts:
            os.kill(os.getpid(), signal.SIGKILL)
    return rank()


def talk(lines: int) -> None:
    for number in range(lines):
        print(f"line {number}")
    print("to stderr", file=sys.stderr)
    logging.getLogger("my.logger").warning("a record\nof two lines")
    logging.getLogger("my.logger").debug("not shown")
    print("the end, without a newline", end="")


def talk_and_crash(lines: int) -> None:
    for number in range(lines):
        print(f"line {number} {'x' * 60}")
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def use_the_environment() -> tuple[int, float]:
    """As Accelerate, Lightning and plain scripts do: the group is made by the function itself."""
    dist.init_process_group("gloo")
    answer = sum_of_ranks()
    dist.destroy_process_group()
    return answer


def is_initialized() -> bool:
    return dist.is_initialized()


def sums_and_pages(state: dict[str, Any]) -> tuple[int, int, int]:
    """The sum of all elements, the bytes mapped from parcels, and those of them that are this worker's own copies."""
    total = sum(int(value.sum()) for value in state.values())
    return total, *_parcel_bytes()


def change_own_copy(values: torch.Tensor) -> float:
    before = values.clone()
    values += rank() + 1
    return float((values - before).sum())


def _parcel_bytes() -> tuple[int, int]:
    mapped = copied = 0
    is_parcel = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if "-" in key:  # the head of a mapping: its addresses come first
            is_parcel = "kourou-parcel" in line
        elif is_parcel and key == "Rss":
            mapped += 1024 * int(value.split()[0])
        elif is_parcel and key == "Anonymous":
            copied += 1024 * int(value.split()[0])
    return mapped, copied


def same(value: torch.Tensor) -> torch.Tensor:
    return value


def ones(elements: int) -> torch.Tensor:
    return torch.ones(elements)


def nested_in_rank_0() -> tuple[list[tuple[int, float]], tuple[int, float]]:
    """What ranks below rank 0 come to, and this rank with its own group after that; one that has some is enough."""
    from kourou.spmd import Launcher

    below = []
    if rank() == 0:
        with Launcher(["localhost"], workers_per_host=2, backend="gloo").set_logging_handlers(None) as launcher:
            below = launcher.run(sum_of_ranks).results["localhost"]
    return below, sum_of_ranks()


def not_picklable() -> Any:
    return threading.Lock()


def hostname() -> str:
    return socket.gethostname()


def wait_for(path: Path) -> int:
    (path.parent / f"waiting{rank()}").touch()
    while not path.exists():
        time.sleep(0.05)
    return rank()
