"""From the CPU numbers of an affinity code to the CPUs that this process may really use.

Codes number CPUs as if the whole machine were there to be used. Inside a Slurm job, a container or under ``taskset``
it is not, and pinning to a CPU that is not allowed is an error of the operating system.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.failures import AffinityError
from kourou.experiments.rlpyt.affinity import Affinity, RunAffinity, affinity_from_code, all_cpus
from kourou.experiments.rlpyt.affinity_code import AffinityCode, encode_affinity, prepend_run_slot
from kourou.runtime.model.inventory import Inventory

_SYSFS = Path("/sys/devices/system/cpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Core:
    """One physical core, as far as this process may use it."""

    threads: tuple[int, ...]
    """Numbers of its CPUs (hardware threads) that may be used, lowest first."""
    socket: int = 0
    """The socket that it sits on."""

    def __post_init__(self) -> None:
        if not self.threads:
            raise AffinityError("a core that may be used has at least one CPU")


def available_cores(inventory: Inventory | None = None, *, sysfs: Path = _SYSFS) -> tuple[Core, ...]:
    """The cores that this process may use, socket by socket.

    Args:
        inventory: the CPUs to group; None: those that this process may use.
        sysfs: where Linux describes its CPUs; without it every CPU counts as a core of one socket.
    """
    cpus = (inventory or Inventory.of_this_process(with_gpus=False)).cpus
    grouped: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for cpu in sorted(cpus):
        grouped.setdefault(_place(cpu, sysfs), []).append(cpu)
    return tuple(
        Core(threads=tuple(threads), socket=socket)
        for (socket, _), threads in sorted(grouped.items(), key=lambda item: (item[0][0], item[1]))
    )


def fit_affinity(run_slot_affinity_code: str, *, cores: Sequence[Core] | None = None) -> RunAffinity:
    """The affinity of a slot, on CPUs that may be used. Slots of one code get CPUs of their own, as in the code.

    The code's own numbers stay where all of its CPUs may be used and its hyperthread offset is the machine's. Otherwise
    the code's cores are mapped, in order, to those that there are; a second thread that may not be used is replaced by
    the core's first.

    Args:
        run_slot_affinity_code: a code with a run slot.
        cores: what there is; None: what this process may use.

    Raises:
        AffinityError: the code uses more cores than there are, or has no meaning.
    """
    affinity = affinity_from_code(run_slot_affinity_code)
    code = AffinityCode.decode(run_slot_affinity_code)
    numbers = _mapping(code, available_cores() if cores is None else tuple(cores))
    if isinstance(affinity, list):
        return [Affinity(_renumbered(part, numbers)) for part in affinity]
    return Affinity(_renumbered(affinity, numbers))


def _mapping(code: AffinityCode, cores: Sequence[Core]) -> Mapping[int, int]:
    """CPU number in the code → CPU number on this machine."""
    everything = dataclasses.replace(code, run_slot=None)
    slots = [affinity_from_code(prepend_run_slot(i, everything.encode())) for i in range(code.n_run_slots)]
    used = sorted({cpu for slot in slots for cpu in all_cpus(slot)})
    offset = code.hyperthread_offset
    if not offset:
        # One number is one CPU: the first threads of all cores are taken before any second one.
        threads = [thread for _, thread in sorted((i, t) for core in cores for i, t in enumerate(core.threads))]
        return _matched(everything, used, used if set(used) <= set(threads) else threads)
    own = [cpu for cpu in used if cpu < offset]
    if {(cpu, cpu + offset) for cpu in own} <= {core.threads[:2] for core in cores}:
        return dict(zip(used, used, strict=True))
    firsts = _matched(everything, own, [core.threads[0] for core in cores])
    seconds = {core.threads[0]: core.threads[min(1, len(core.threads) - 1)] for core in cores}
    return {**firsts, **{cpu + offset: seconds[first] for cpu, first in firsts.items()}}


def _matched(code: AffinityCode, numbers: Sequence[int], cpus: Sequence[int]) -> Mapping[int, int]:
    if len(cpus) < len(numbers):
        allowed = ", ".join(map(str, cpus)) or "none"
        raise AffinityError(
            f"affinity code {code.encode()} uses {len(numbers)} cores, but this process may use {len(cpus)} "
            f"(CPUs {allowed}): ask for less, or for a job with more"
        )
    return dict(zip(numbers, cpus, strict=False))


def _renumbered(part: Mapping[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    return {key: _renumbered_value(key, value, numbers) for key, value in part.items()}


def _renumbered_value(key: str, value: Any, numbers: Mapping[int, int]) -> Any:
    if key == "workers_cpus":
        return tuple(_distinct(numbers[cpu] for cpu in worker) for worker in value)
    if key.endswith("cpus"):
        return _distinct(numbers[cpu] for cpu in value)
    if isinstance(value, Mapping):
        return Affinity(_renumbered(value, numbers))
    if isinstance(value, list):
        return [Affinity(_renumbered(item, numbers)) for item in value]
    return value


def _distinct(cpus: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(cpus))


def _place(cpu: int, sysfs: Path) -> tuple[int, tuple[int, ...]]:
    """The socket of a CPU, and the numbers that its core's threads have; a core of its own where nothing is known."""
    topology = sysfs / f"cpu{cpu}" / "topology"
    try:
        socket = int((topology / "physical_package_id").read_text(encoding="ascii"))
        return socket, _numbers((topology / "thread_siblings_list").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0, (cpu,)


def _numbers(ranges: str) -> tuple[int, ...]:
    """Read the kernel's lists: ``"0,4-6"`` → ``(0, 4, 5, 6)``."""
    bounds = [part.strip().partition("-") for part in ranges.split(",")]
    return tuple(cpu for low, _, high in bounds for cpu in range(int(low), int(high or low) + 1))


def quick_affinity_code(
    n_parallel: int | None = None,
    use_gpu: bool = True,  # noqa: FBT001, FBT002 - rlpyt's signature
    contexts_per_gpu: int = 1,
    *,
    inventory: Inventory | None = None,
) -> str:
    """A code that divides what this process may use evenly.

    Args:
        n_parallel: runs at once; with GPUs, the most GPUs to use. None: as many as there are GPUs.
        use_gpu: whether to use the GPUs that there are.
        contexts_per_gpu: runs that share one GPU.
        inventory: what there is; None: what this process may use, so the launcher's CPU and GPU masks count.

    Raises:
        AffinityError: there are no GPUs to use and ``n_parallel`` is not said, or more runs than cores.
    """
    available = inventory or Inventory.of_this_process(with_gpus=use_gpu)
    cores = len(available_cores(available))
    n_gpu = len(available.gpus) if use_gpu else 0
    if n_gpu:
        n_gpu = min(n_parallel or n_gpu, n_gpu)
        runs = n_gpu * contexts_per_gpu
        if cores < runs:
            raise AffinityError(f"{runs} runs on {n_gpu} GPUs need a core each, this process may use {cores}")
        return encode_affinity(n_cpu_core=cores // runs * runs, n_gpu=n_gpu, contexts_per_gpu=contexts_per_gpu)
    if not n_parallel or n_parallel < 1:
        raise AffinityError(f"without GPUs, n_parallel says how many runs share the {cores} cores; got {n_parallel!r}")
    runs = min(n_parallel, cores)
    return encode_affinity(n_cpu_core=cores // runs * runs, n_gpu=0, cpu_per_run=cores // runs)
