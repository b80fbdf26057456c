"""Memory of this host and of its GPUs: how much there is, and whether a GPU has enough free for another run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from kourou.runtime.model.gpus import GpuMemory, read_gpus
from kourou.shown import size

__all__ = ["GpuGate", "GpuMemory", "Memory", "find_gpu", "read_gpu_memory"]

_CLAIMED_S = 30.0  # after its start a run may not have taken its memory yet, so its claim counts
_LOOK_S = 1.0  # between looks at the GPUs
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def read_gpu_memory() -> dict[str, GpuMemory]:
    """The memory of this host's NVIDIA GPUs, each under all its names; without a driver, of none."""
    return {name: gpu.memory for gpu in read_gpus() if gpu.memory is not None for name in gpu.names}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory that a sweep may use.

    Tests make one by hand: ``Memory(total_bytes=64 << 30, read_gpus=lambda: {"0": GpuMemory(...)})``.
    """

    total_bytes: int
    """Of the host, or of this process's control group."""
    read_gpus: Callable[[], Mapping[str, GpuMemory]] = read_gpu_memory
    """Tells the memory of GPUs by the names that CUDA_VISIBLE_DEVICES has for them; called again and again."""

    @classmethod
    def of_this_process(cls) -> Memory:
        """What this process may use."""
        return cls(total_bytes=min([psutil.virtual_memory().total, *_cgroup_limits()]))


def find_gpu(gpus: Mapping[str, GpuMemory], name: str) -> GpuMemory | None:
    """The GPU that CUDA_VISIBLE_DEVICES calls so, which may be the beginning of its UUID; None: it is none of these."""
    if name in gpus or not name.startswith(("GPU-", "MIG-")):
        return gpus.get(name)
    return next((memory for known, memory in gpus.items() if known.startswith(name)), None)


class GpuGate:
    """Lets runs onto GPUs that have enough memory free, whoever else uses them."""

    def __init__(self, needed_bytes: int, memory: Memory) -> None:
        self._needed = needed_bytes
        self._memory = memory
        self._seen: Mapping[str, GpuMemory] = {}
        self._seen_at = -_LOOK_S
        self._begun: dict[int, tuple[float, tuple[str, ...]]] = {}

    def refusal(self, gpus: tuple[str, ...]) -> str:
        """Why no run can be started on these GPUs now, in words; empty: one can."""
        now = time.monotonic()
        if now - self._seen_at >= _LOOK_S:
            self._seen, self._seen_at = self._memory.read_gpus(), now
        claimed = [taken for begun_at, taken in self._begun.values() if now - begun_at < _CLAIMED_S]
        for name in gpus:
            seen = find_gpu(self._seen, name)
            if seen is None:
                return f"nothing tells the memory of GPU {name}"
            free = seen.free_bytes - self._needed * sum(name in taken for taken in claimed)
            if free < self._needed:
                return f"GPU {name} has {size(max(0.0, free))} of memory free, and a run needs {size(self._needed)}"
        return ""

    def note_start(self, place: int, gpus: tuple[str, ...]) -> None:
        """A run is being started on these GPUs, at a place of its own."""
        self._begun[place] = time.monotonic(), gpus

    def note_end(self, place: int) -> None:
        """The run at that place has ended."""
        del self._begun[place]
        self._seen_at = -_LOOK_S  # it gave memory back


def _cgroup_limits() -> list[int]:
    """Limits of this process's control group and of those around it."""
    try:
        entries = [line.split(":", 2) for line in _OWN_CGROUP.read_text(encoding="ascii").splitlines()]
    except OSError:  # no Linux
        return []
    limits = []
    for _, controllers, path in entries:
        if controllers in {"", "memory"}:  # version 2, or 1
            top, file = (_CGROUPS, "memory.max") if not controllers else (_CGROUPS / "memory", "memory.limit_in_bytes")
            own = top / path.lstrip("/")
            places = [place for place in (own, *own.parents) if place.is_relative_to(top)]
            limits += [limit for place in places if (limit := _number_in(place / file)) is not None]
    return limits


def _number_in(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # else "max"
