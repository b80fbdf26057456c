"""What the processes of one run get: CPUs, threads and a GPU, in the dictionaries that rlpyt's runners read."""

from __future__ import annotations

from typing import Any, TypeAlias

from kourou.experiments.affinity_code import AffinityCode, encode_affinity
from kourou.experiments.failures import AffinityError

__all__ = ["Affinity", "RunAffinity", "affinity_from_code", "all_cpus", "make_affinity"]

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

    CPUs are numbered as if all of the machine's were to be used, from 0; ``kourou.experiments.cpus`` maps them.

    Raises:
        AffinityError: CPUs or GPUs that cannot be divided so, with the numbers.
    """
    code = AffinityCode.decode(run_slot_affinity_code)
    if code.run_slot is None:
        raise AffinityError(f"affinity code {run_slot_affinity_code!r} has no run slot: see prepend_run_slot")
    if code.n_gpu == 0:
        return _cpu_affinity(code, code.run_slot)
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


def _cpu_affinity(code: AffinityCode, slot: int) -> Affinity:
    _divide(code.n_cpu_core, code.cpu_per_run, "n_cpu_core", "cpu_per_run")
    return _run_affinity(code, _slot_cores(code, slot, code.n_run_slots, code.cpu_per_run))


def _gpu_affinity(code: AffinityCode, slot: int) -> Affinity:
    places = code.n_gpu * code.contexts_per_gpu
    per_run = _divide(code.n_cpu_core, places, "n_cpu_core", "n_gpu × contexts_per_gpu")
    # A GPU's first context comes before any second one, so that half a load is spread over all GPUs.
    place = slot % code.n_gpu * code.contexts_per_gpu + slot // code.n_gpu
    affinity = _run_affinity(code, _slot_cores(code, place, places, per_run))
    affinity["cuda_idx"] = place // code.contexts_per_gpu
    return affinity


def _async_affinity(code: AffinityCode, slot: int) -> Affinity:
    if code.n_run_slots % code.n_socket:
        raise AffinityError(
            f"asynchronous runs stay on one socket each: {code.n_run_slots} slots cannot be divided among "
            f"n_socket {code.n_socket}"
        )
    reserved = code.cpu_reserved or 1  # an optimizer needs a core of its own, so here 0 means the usual one
    per_run = code.n_cpu_core // code.n_run_slots
    optimizing = reserved * code.gpu_per_run
    if 0 < per_run < optimizing:
        raise AffinityError(
            f"the optimizers of an asynchronous run need {optimizing} cores (gpu_per_run {code.gpu_per_run} × "
            f"{reserved} reserved), but n_cpu_core {code.n_cpu_core} leaves {per_run} for each of "
            f"{code.n_run_slots} slots"
        )
    # With fewer cores than slots, rlpyt lets the slots of a socket share its first cores, and so do we.
    cores = _slot_cores(code, slot, code.n_run_slots, max(per_run, optimizing), stride=per_run)
    gpus_per_run = code.gpu_per_run + (0 if code.optim_sample_share_gpu else code.sample_gpu_per_run)
    first_gpu = slot * gpus_per_run
    optimizers = [
        Affinity(
            cpus=_with_siblings(code, cores[i * reserved : (i + 1) * reserved]),
            cuda_idx=first_gpu + i,
            torch_threads=reserved,
            set_affinity=code.set_affinity,
        )
        for i in range(code.gpu_per_run)
    ]
    first_sampling_gpu = first_gpu + (0 if code.optim_sample_share_gpu else code.gpu_per_run)
    samplers = _samplers(code, cores[optimizing:], first_sampling_gpu)
    cpus = [optimizer["cpus"] for optimizer in optimizers] + [sampler["all_cpus"] for sampler in samplers]
    return Affinity(
        all_cpus=tuple(cpu for part in cpus for cpu in part),
        optimizer=optimizers,
        sampler=samplers if code.sample_gpu_per_run else samplers[0],
        set_affinity=code.set_affinity,
    )


def _samplers(code: AffinityCode, cores: Cpus, first_gpu: int) -> list[Affinity]:
    """One sampler for each of their GPUs, or a single one without."""
    count = code.sample_gpu_per_run or 1
    each = _divide(len(cores), count, "cores left for sampling", "sample_gpu_per_run")
    samplers = []
    for i in range(count):
        sampler = _run_affinity(code, cores[i * each : (i + 1) * each], reserved=0)
        sampler["cuda_idx"] = first_gpu + i if code.sample_gpu_per_run else None
        samplers.append(sampler)
    return samplers


def _run_affinity(code: AffinityCode, cores: Cpus, *, reserved: int | None = None) -> Affinity:
    cpus = _with_siblings(code, cores)
    return Affinity(
        all_cpus=cpus,
        master_cpus=cpus,
        workers_cpus=_workers(code, cores[code.cpu_reserved if reserved is None else reserved :]),
        master_torch_threads=len(cores),
        worker_torch_threads=code.cpu_per_worker,
        alternating=code.alternating,
        set_affinity=code.set_affinity,
    )


def _workers(code: AffinityCode, cores: Cpus) -> tuple[Cpus, ...]:
    size = code.cpu_per_worker
    _divide(len(cores), size, "cores left for workers", "cpu_per_worker")
    groups = tuple(cores[start : start + size] for start in range(0, len(cores), size))
    if not code.alternating:
        return tuple(_with_siblings(code, group) for group in groups)
    # Two workers take turns on each group: one on the cores' first threads, one on the second, where there are any.
    return groups + tuple(tuple(core + code.hyperthread_offset for core in group) for group in groups)


def _with_siblings(code: AffinityCode, cores: Cpus) -> Cpus:
    if not code.hyperthread_offset:
        return cores
    return cores + tuple(core + code.hyperthread_offset for core in cores)


def _slot_cores(code: AffinityCode, slot: int, n_slots: int, per_run: int, stride: int | None = None) -> Cpus:
    """The cores of one slot, on as few sockets as can be.

    Args:
        code: the machine.
        slot: which slot.
        n_slots: out of how many.
        per_run: cores of each.
        stride: from one slot's first core to the next slot's; None: ``per_run``.
    """
    sockets = code.n_socket
    if (code.hyperthread_offset - code.n_cpu_core) % sockets:
        raise AffinityError(
            f"the unused numbers of hyperthread_offset {code.hyperthread_offset} - n_cpu_core {code.n_cpu_core} "
            f"cannot be divided evenly among n_socket {sockets}"
        )
    per_socket = max(code.n_cpu_core, code.hyperthread_offset) // sockets
    if n_slots >= sockets:
        slots_per_socket = _divide(n_slots, sockets, "run slots", "n_socket")
        socket, place = divmod(slot, slots_per_socket)
        first = socket * per_socket + place * (per_run if stride is None else stride)
        return tuple(range(first, first + per_run))
    spanned = _divide(sockets, n_slots, "n_socket", "run slots")
    each = _divide(per_run, spanned, "cores of a run", "sockets of a run")
    firsts = [socket * per_socket for socket in range(slot * spanned, (slot + 1) * spanned)]
    return tuple(core for first in firsts for core in range(first, first + each))


def _divide(whole: int, parts: int, whole_name: str, parts_name: str) -> int:
    quotient, rest = divmod(whole, parts)
    if rest:
        raise AffinityError(f"{whole_name} {whole} cannot be divided evenly by {parts_name} {parts}: {rest} left over")
    return quotient
