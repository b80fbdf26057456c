"""An affinity code for whatever this process may use, where nobody wants to count."""

from __future__ import annotations

from kourou.experiments.failures import AffinityError
from kourou.experiments.rlpyt.affinity_code import encode_affinity
from kourou.experiments.rlpyt.cpus import available_cores
from kourou.runtime.model.inventory import Inventory


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
