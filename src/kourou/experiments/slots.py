"""Places for runs on this host: how many at once, and which CPUs and GPUs each of them has."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from kourou import errors
from kourou.runtime.inventory import Inventory

__all__ = ["Share", "Slot", "SlotPool", "make_slots"]


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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise errors.PlanError(f"{field.name} is a whole number of at least 1, got {value!r}")
        if self.runs_per_gpu is not None and self.gpus_per_run is not None:
            raise errors.PlanError("give runs_per_gpu or gpus_per_run, not both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for one run."""

    index: int
    gpus: tuple[str, ...] | None = None
    """What its run finds in CUDA_VISIBLE_DEVICES; None: what the launcher has there."""
    cpus: tuple[int, ...] | None = None
    """What its run is pinned to; None: nothing."""
    threads: int = 1
    """How many CPUs its run may count on."""


def make_slots(share: Share, inventory: Inventory) -> tuple[Slot, ...]:
    """The places that a machine has; with ``share.parallel`` below their number, not all are taken at once.

    Raises:
        PlanError: more is asked for than there is.
    """
    gpu_sets = _gpu_sets(share, inventory.gpus)
    cpu_sets = _cpu_sets(share, inventory.cpus)
    count = min(len(sets) for sets in (gpu_sets, cpu_sets) if sets is not None) if gpu_sets or cpu_sets else None
    if count is None:
        count = share.parallel or len(inventory.cpus)
    at_once = min(count, share.parallel or count)
    return tuple(
        Slot(
            index=i,
            gpus=gpu_sets[i] if gpu_sets is not None else None,
            cpus=cpu_sets[i] if cpu_sets is not None else None,
            threads=len(cpu_sets[i]) if cpu_sets is not None else max(1, len(inventory.cpus) // at_once),
        )
        for i in range(count)
    )


def _gpu_sets(share: Share, gpus: Sequence[str]) -> list[tuple[str, ...]] | None:
    if share.runs_per_gpu is None and share.gpus_per_run is None:
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

    Args:
        slots: all of them.
        parallel: how many may be taken at once; None: all.
    """

    def __init__(self, slots: Sequence[Slot], parallel: int | None = None) -> None:
        self._free = {slot.index: slot for slot in slots}
        self._taken: dict[int, Slot] = {}
        self._parallel = min(parallel or len(slots), len(slots))

    @property
    def size(self) -> int:
        """How many runs there are places for at once."""
        return self._parallel

    @property
    def has_room(self) -> bool:
        """Whether :meth:`take` would find a slot."""
        return len(self._taken) < self._parallel

    def take(self) -> Slot:
        """A free slot, which is no longer free."""
        room = Counter(slot.gpus for slot in self._free.values())
        chosen = min(self._free.values(), key=lambda slot: (-room[slot.gpus], slot.index))
        self._taken[chosen.index] = self._free.pop(chosen.index)
        return chosen

    def give_back(self, slot: Slot) -> None:
        """Let another run have it."""
        self._free[slot.index] = self._taken.pop(slot.index)
