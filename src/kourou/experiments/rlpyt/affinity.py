"""What the processes of one run get: CPUs, threads and a GPU, in the dictionaries that rlpyt's runners read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from kourou.experiments.failures import AffinityError
from kourou.experiments.rlpyt.affinity_code import AffinityCode, encode_affinity

Cpus: TypeAlias = "tuple[int, ...]"


class Affinity(dict[str, Any]):
    """A dictionary whose keys are also attributes: ``affinity.cuda_idx``.

    Keys of a run's affinity: ``all_cpus``, ``master_cpus``, ``workers_cpus`` (a tuple of CPUs for each worker),
    ``master_torch_threads``, ``worker_torch_threads``, ``alternating``, ``set_affinity`` and, with a GPU, ``cuda_idx``.
    An asynchronous run's: ``all_cpus``, ``optimizer`` (a list), ``sampler`` (a list, or one without its own GPU) and
    ``set_affinity``.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this affinity has no {name!r}, it has {', '.join(self) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


RunAffinity: TypeAlias = "Affinity | list[Affinity]"
"""One affinity, or one for each GPU of a synchronous multi-GPU run."""


def make_affinity(run_slot: int = 0, **options: Any) -> RunAffinity:
    """The affinity of one slot; the options are those of ``encode_affinity``."""
    return affinity_from_code(encode_affinity(run_slot=run_slot, **options))


def affinity_from_code(run_slot_affinity_code: str) -> RunAffinity:
    """The affinity that a code with a run slot stands for.

    CPUs are numbered as if all of the machine's were to be used, from 0; ``kourou.experiments.rlpyt.cpus`` maps them.

    Raises:
        AffinityError: CPUs or GPUs that cannot be divided so, with the numbers.
    """
    code = AffinityCode.decode(run_slot_affinity_code)
    if code.run_slot is None:
        raise AffinityError(f"affinity code {run_slot_affinity_code!r} has no run slot: see prepend_run_slot")
    if code.n_gpu == 0:
        _exact_quotient(code.n_cpu_core, code.cpu_per_run, "n_cpu_core", "cpu_per_run")
        return _run_affinity(code, _slot_cores(code, code.run_slot, code.n_run_slots, code.cpu_per_run))
    if code.async_sample:
        return _async_affinity(code, code.run_slot)
    if code.gpu_per_run > 1:
        first = code.run_slot * code.gpu_per_run
        return [_gpu_affinity(code, slot) for slot in range(first, first + code.gpu_per_run)]
    return _gpu_affinity(code, code.run_slot)


def all_cpus(affinity: RunAffinity) -> Cpus:
    """Every CPU of a run, those of all its GPUs together."""
    parts = affinity if isinstance(affinity, list) else [affinity]
    return tuple(cpu for part in parts for cpu in part["all_cpus"])


def _gpu_affinity(code: AffinityCode, slot: int) -> Affinity:
    places = code.n_gpu * code.contexts_per_gpu
    per_run = _exact_quotient(code.n_cpu_core, places, "n_cpu_core", "n_gpu × contexts_per_gpu")
    # A GPU's first context comes before any second one, so that half a load is spread over all GPUs.
    place = slot % code.n_gpu * code.contexts_per_gpu + slot // code.n_gpu
    affinity = _run_affinity(code, _slot_cores(code, place, places, per_run))
    affinity["cuda_idx"] = place // code.contexts_per_gpu
    return affinity


def _async_affinity(code: AffinityCode, slot: int) -> Affinity:
    reserved = code.cpu_reserved or 1  # an optimizer needs a core of its own, so here 0 means the usual one
    per_run = code.n_cpu_core // code.n_run_slots
    optimizing = reserved * code.gpu_per_run
    if 0 < per_run < optimizing:
        raise AffinityError(
            f"the optimizers of an asynchronous run need {optimizing} cores (gpu_per_run {code.gpu_per_run} × "
            f"{reserved} reserved), but n_cpu_core {code.n_cpu_core} leaves {per_run} for each of "
            f"{code.n_run_slots} slots"
        )
    first_devices = _first_devices(code, slot, per_run)
    optimizers_each = _exact_quotient(code.gpu_per_run, len(first_devices), "gpu_per_run", "sockets of a run")
    optimizers = [
        Affinity(
            cpus=_with_siblings(code, tuple(range(core + i * reserved, core + (i + 1) * reserved))),
            cuda_idx=gpu + i,
            torch_threads=reserved,
            set_affinity=code.set_affinity,
        )
        for gpu, core in first_devices
        for i in range(optimizers_each)
    ]
    gpus_before = 0 if code.optim_sample_share_gpu else optimizers_each
    samplers = _samplers(
        code,
        [(gpu + gpus_before, core + optimizers_each * reserved) for gpu, core in first_devices],
        max(0, per_run - optimizing) // code.cpu_per_worker * code.cpu_per_worker,  # no worker has less than its share
    )
    cpus = [optimizer["cpus"] for optimizer in optimizers] + [sampler["all_cpus"] for sampler in samplers]
    return Affinity(
        all_cpus=tuple(cpu for part in cpus for cpu in part),
        optimizer=optimizers,
        sampler=samplers if code.sampling_gpus else samplers[0],
        set_affinity=code.set_affinity,
    )


def _first_devices(code: AffinityCode, slot: int, per_run: int) -> list[tuple[int, int]]:
    """The first GPU and the first core of an asynchronous run on each of its sockets: one, if it fits on it."""
    sockets, runs = code.n_socket, code.n_run_slots
    gpus_per_socket, cores_per_socket = code.n_gpu // sockets, max(code.n_cpu_core, code.hyperthread_offset) // sockets
    if code.async_gpus <= gpus_per_socket:
        socket, place = divmod(slot, _exact_quotient(runs, sockets, "slots of asynchronous runs", "n_socket"))
        return [(socket * gpus_per_socket + place * code.async_gpus, socket * cores_per_socket + place * per_run)]
    spanned = sockets // runs
    if code.async_gpus > spanned * gpus_per_socket:
        raise AffinityError(
            f"an asynchronous run on {code.async_gpus} GPUs does not fit on {spanned} of n_socket {sockets} sockets, "
            f"which have {gpus_per_socket} GPUs each: try n_socket=1"
        )
    return [(s * gpus_per_socket, s * cores_per_socket) for s in range(slot * spanned, (slot + 1) * spanned)]


def _samplers(code: AffinityCode, first_devices: Sequence[tuple[int, int]], cores: int) -> list[Affinity]:
    """One sampler for each of their GPUs, or a single one without; each the same number of cores, the rest is idle."""
    here = len(first_devices)
    if not code.sampling_gpus:
        together = tuple(c for _, core in first_devices for c in range(core, core + cores // here))
        return [_sampler(code, together, None)]
    count = _exact_quotient(code.sampling_gpus, here, "sample_gpu_per_run", "sockets of a run")
    each = cores // code.sampling_gpus
    return [
        _sampler(code, tuple(range(core + i * each, core + (i + 1) * each)), gpu + i)
        for gpu, core in first_devices
        for i in range(count)
    ]


def _sampler(code: AffinityCode, cores: Cpus, gpu: int | None) -> Affinity:
    size = code.cpu_per_worker
    affinity = _run_affinity(code, cores, working=cores[: len(cores) // size * size])
    affinity["cuda_idx"] = gpu
    return affinity


def _run_affinity(code: AffinityCode, cores: Cpus, *, working: Cpus | None = None) -> Affinity:
    """``working``: the cores of its workers; None: all but those that the code reserves."""
    cpus = _with_siblings(code, cores)
    return Affinity(
        all_cpus=cpus,
        master_cpus=cpus,
        workers_cpus=_workers(code, cores[code.cpu_reserved :] if working is None else working),
        master_torch_threads=len(cores),
        worker_torch_threads=code.cpu_per_worker,
        alternating=code.alternating,
        set_affinity=code.set_affinity,
    )


def _workers(code: AffinityCode, cores: Cpus) -> tuple[Cpus, ...]:
    size = code.cpu_per_worker
    _exact_quotient(len(cores), size, "cores left for workers", "cpu_per_worker")
    groups = tuple(cores[start : start + size] for start in range(0, len(cores), size))
    if not code.alternating:
        return tuple(_with_siblings(code, group) for group in groups)
    # Two workers take turns on each group: one on the cores' first threads, one on the second, where there are any.
    return groups + tuple(tuple(core + code.hyperthread_offset for core in group) for group in groups)


def _with_siblings(code: AffinityCode, cores: Cpus) -> Cpus:
    if not code.hyperthread_offset:
        return cores
    return cores + tuple(core + code.hyperthread_offset for core in cores)


def _slot_cores(code: AffinityCode, slot: int, n_slots: int, per_run: int) -> Cpus:
    """The cores of one slot out of ``n_slots``, on as few sockets as can be."""
    sockets = code.n_socket
    if (code.hyperthread_offset - code.n_cpu_core) % sockets:
        raise AffinityError(
            f"the unused numbers of hyperthread_offset {code.hyperthread_offset} - n_cpu_core {code.n_cpu_core} "
            f"cannot be divided evenly among n_socket {sockets}"
        )
    there_are = max(code.n_cpu_core, code.hyperthread_offset)
    per_socket, spanned = there_are // sockets, max(1, sockets // n_slots)
    slots_per_socket, each = max(1, n_slots // sockets), per_run // spanned  # what cannot be divided stays idle
    positions = [divmod(spot, slots_per_socket) for spot in range(slot * spanned, (slot + 1) * spanned)]
    last_socket, last_place = divmod(n_slots * spanned - 1, slots_per_socket)
    if not each or last_socket * per_socket + (last_place + 1) * each > there_are:
        raise AffinityError(
            f"{n_slots} run slots of {per_run} cores cannot be divided among n_socket {sockets} with {per_socket} "
            "cores each: try n_socket=1"
        )
    firsts = [socket * per_socket + place * each for socket, place in positions]
    return tuple(core for first in firsts for core in range(first, first + each))


def _exact_quotient(whole: int, parts: int, whole_name: str, parts_name: str) -> int:
    quotient, rest = divmod(whole, parts)
    if rest:
        raise AffinityError(f"{whole_name} {whole} cannot be divided evenly by {parts_name} {parts}: {rest} left over")
    return quotient
