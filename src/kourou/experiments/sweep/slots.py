"""Places for runs on this host: how many at once, and which CPUs and GPUs each of them has."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from kourou import errors
from kourou.experiments.sweep.free_memory import GpuGate, Memory, find_gpu
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.inventory import Inventory
from kourou.shown import size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """How the machine is shared among runs. Nothing said: a run for each CPU, and GPUs are left alone."""

    parallel: int | None = None
    """Runs at once; None: as many as there are places for."""
    gpus: int | None = None
    """How many of the launcher's GPUs the sweep may use, the first ones; None: all."""
    runs_per_gpu: int | None = None
    """Runs that share one GPU."""
    gpus_per_run: int | None = None
    """Or GPUs that one run has for itself."""
    cpus_per_run: int | None = None
    """CPUs that a run has for itself, as its real affinity; None: runs share all, and each is told its fair number of
    threads."""
    memory_bytes: int | None = None
    """Resident memory that a run and all that it starts may take; one that takes more is killed. There are no more
    places than have room for it. None: no limit."""
    gpu_memory_bytes: int | None = None
    """Memory that a run takes of each of its GPUs. It is not started before so much is free there, whoever has taken
    the rest; nothing limits what it then takes. None: it is not asked for."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise errors.PlanError(f"{field.name} is a whole number of at least 1, got {value!r}")
        if self.runs_per_gpu is not None and self.gpus_per_run is not None:
            raise errors.PlanError("give runs_per_gpu or gpus_per_run, not both")
        if self.gpu_memory_bytes is not None and not self.gives_gpus:
            raise errors.PlanError("gpu_memory_bytes is of the GPUs that a run gets: give runs_per_gpu or gpus_per_run")

    @property
    def gives_gpus(self) -> bool:
        """Whether runs are told which GPUs are theirs."""
        return self.runs_per_gpu is not None or self.gpus_per_run is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for one run."""

    index: int
    host: str | None = None
    """One of an engine's, whose CPUs and GPUs are numbered by their place among those that it gave; None: this one."""
    gpus: tuple[str, ...] | None = None
    """What its run finds in CUDA_VISIBLE_DEVICES; None: what the launcher has there."""
    cpus: tuple[int, ...] | None = None
    """What its run is pinned to; None: nothing."""
    threads: int = 1
    """How many CPUs its run may count on."""
    memory_bytes: int | None = None
    """Past so much memory its run is killed; None: nothing limits it."""


def make_slots(share: Share, inventory: Inventory, memory: Memory | None = None) -> tuple[Slot, ...]:
    """The places that a machine has; with ``share.parallel`` below their number, not all are taken at once.

    Raises:
        PlanError: more is asked for than there is.
    """
    memory = memory or Memory.of_this_process()
    gpu_sets = _gpu_sets(share, inventory.gpus)
    cpu_sets = _cpu_sets(share, inventory.cpus)
    _check_gpu_memory(share, gpu_sets or (), memory)
    count = min(len(sets) for sets in (gpu_sets, cpu_sets) if sets is not None) if gpu_sets or cpu_sets else None
    if count is None:
        count = share.parallel or len(inventory.cpus)
    at_once = _with_room(share, min(count, share.parallel or count), memory)
    return tuple(
        Slot(
            index=i,
            gpus=gpu_sets[i] if gpu_sets is not None else None,
            cpus=cpu_sets[i] if cpu_sets is not None else None,
            threads=len(cpu_sets[i]) if cpu_sets is not None else max(1, len(inventory.cpus) // at_once),
            memory_bytes=share.memory_bytes,
        )
        for i in range(count if share.parallel else at_once)
    )


def engine_slots(share: Share, engine: EngineOptions, runs: int) -> tuple[Shape, tuple[Slot, ...]]:
    """What is asked for, and the places for runs that this has.

    Args:
        share: what each run gets, and how many there are at once.
        engine: how many hosts, and what each has; what it does not say is what the share needs.
        runs: how many there are.

    Raises:
        PlanError: a host has not enough for one run.
    """
    if share.gpu_memory_bytes is not None or share.gpus is not None:
        raise errors.PlanError(
            "gpus and gpu_memory_bytes are for runs on this host: an engine's hosts have gpus_per_node"
        )
    hosts = engine.nodes or 1
    each = -(-min(share.parallel or hosts, max(1, runs)) // hosts)  # at once, on each
    gpus = each * (share.gpus_per_run or 1) if share.runs_per_gpu is None else -(-each // share.runs_per_gpu)
    shape = Shape(
        hosts=hosts,
        cpus=engine.cpus_per_node or each * (share.cpus_per_run or 1),
        gpus=(gpus if share.gives_gpus else 0) if engine.gpus_per_node is None else engine.gpus_per_node,
    )
    places = Inventory(cpus=tuple(range(shape.cpus)), gpus=tuple(map(str, range(shape.gpus))))
    alike = make_slots(dataclasses.replace(share, parallel=None), places, Memory(total_bytes=sys.maxsize))
    slots = [dataclasses.replace(slot, host=f"host{host}") for slot in alike for host in range(hosts)]
    return shape, tuple(dataclasses.replace(slot, index=index) for index, slot in enumerate(slots))


def _gpu_sets(share: Share, gpus: Sequence[str]) -> list[tuple[str, ...]] | None:
    if not share.gives_gpus:
        return None
    each = share.gpus_per_run or 1
    wanted = max(each, share.gpus or 0)
    if len(gpus) < wanted:
        raise errors.PlanError(
            f"{wanted} GPUs are asked for, but the launcher may use {len(gpus)} ({', '.join(gpus) or 'none'})"
        )
    used = gpus[: share.gpus]
    sets = [tuple(used[start : start + each]) for start in range(0, len(used) - each + 1, each)]
    return sets * (share.runs_per_gpu or 1)


def _check_gpu_memory(share: Share, gpu_sets: Sequence[tuple[str, ...]], memory: Memory) -> None:
    if share.gpu_memory_bytes is None:
        return
    together = share.runs_per_gpu or 1
    seen = memory.read_gpus()
    for name in dict.fromkeys(name for gpus in gpu_sets for name in gpus):
        gpu = find_gpu(seen, name)
        if gpu is None:
            raise errors.PlanError(
                f"nothing tells the memory of GPU {name} (neither NVML nor nvidia-smi does): leave it unsaid"
            )
        if together * share.gpu_memory_bytes > gpu.total_bytes:
            needed = f"{together} × " * (together > 1) + size(share.gpu_memory_bytes)
            raise errors.PlanError(f"{needed} of memory are asked for, but GPU {name} has {size(gpu.total_bytes)}")


def _with_room(share: Share, at_once: int, memory: Memory) -> int:
    """How many runs there is memory for; where it was said how many run at once, that many."""
    if share.memory_bytes is None:
        return at_once
    needed = at_once if share.parallel else 1
    fitting = memory.total_bytes // share.memory_bytes
    if fitting < needed:
        raise errors.PlanError(
            f"{needed} runs at once with {size(share.memory_bytes)} of memory each need "
            f"{size(needed * share.memory_bytes)}, but there are {size(memory.total_bytes)}"
        )
    return min(at_once, fitting)


def _cpu_sets(share: Share, cpus: Sequence[int]) -> list[tuple[int, ...]] | None:
    each = share.cpus_per_run
    if each is None:
        return None
    needed = each * (share.parallel or 1)
    if len(cpus) < needed:
        raise errors.PlanError(
            f"{share.parallel or 1} runs at once on {each} CPUs each need {needed}, "
            f"but the launcher may use {len(cpus)}"
        )
    return [tuple(cpus[start : start + each]) for start in range(0, len(cpus) - each + 1, each)]


class SlotPool:
    """The slots that are free. A run goes where its GPU has most room, so that half a load is spread over all GPUs.

    Raises:
        PlanError: there are none, so that no run could ever start.
    """

    def __init__(self, slots: Sequence[Slot], parallel: int | None = None, gate: GpuGate | None = None) -> None:
        if not slots:
            raise errors.PlanError("there is no slot for any run: slots has none")
        self._free = {slot.index: slot for slot in slots}
        self._taken: dict[int, Slot] = {}
        self._parallel = min(parallel or len(slots), len(slots))
        self._gate = gate
        self.ask_host: Callable[[Slot], str] = lambda _: ""
        """Why a slot's host cannot be had now; empty: it can."""

    @property
    def size(self) -> int:
        """How many runs there are places for at once."""
        return self._parallel

    @property
    def has_room(self) -> bool:
        """Whether :meth:`acquire` would find a slot."""
        return len(self._taken) < self._parallel and bool(self._admitted())

    @property
    def refusal(self) -> str:
        """Why none of the slots that are free can be had, in words; empty: one can, or none is free."""
        if len(self._taken) >= self._parallel or self._admitted():
            return ""
        return "; ".join(dict.fromkeys(map(self._refusal_of, self._free.values())))

    def acquire(self) -> Slot:
        """A free slot, which is no longer free."""
        room = Counter((slot.host, slot.gpus) for slot in self._free.values())
        chosen = min(self._admitted(), key=lambda slot: (-room[slot.host, slot.gpus], slot.index))
        self._taken[chosen.index] = self._free.pop(chosen.index)
        if self._gate is not None:
            self._gate.note_start(chosen.index, chosen.gpus or ())
        return chosen

    def release(self, slot: Slot) -> None:
        """Let another run have it."""
        self._free[slot.index] = self._taken.pop(slot.index)
        if self._gate is not None:
            self._gate.note_end(slot.index)

    def _admitted(self) -> list[Slot]:
        return [slot for slot in self._free.values() if not self._refusal_of(slot)]

    def _refusal_of(self, slot: Slot) -> str:
        return self.ask_host(slot) or ("" if self._gate is None else self._gate.refusal(slot.gpus or ()))
