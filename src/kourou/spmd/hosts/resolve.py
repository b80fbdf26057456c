"""Which hosts a run takes, and how many workers each of them gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeAlias

from kourou.runtime.host_agent.addresses import is_this_machine
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.model.inventory import Inventory
from kourou.shown import shown
from kourou.spmd.hosts.places import Host

Hostnames: TypeAlias = list[str] | Literal["auto", "slurm"]
WorkersPerHost: TypeAlias = int | list[int] | Literal["cpu", "gpu"]


def resolve_hosts(
    hostnames: Hostnames,
    workers_per_host: WorkersPerHost,
    inventory_of: Callable[[str], Inventory] = lambda _: Inventory.of_this_process(),
    elsewhere: Collection[str] | None = None,
) -> list[Host]:
    """The hosts of a run.

    Args:
        hostnames: as the Launcher has it.
        workers_per_host: as the Launcher has it.
        inventory_of: what a host of that name has; asked for "cpu" and "gpu".
        elsewhere: the names of those that are not this machine; None: the names tell it.

    Raises:
        ValueError: the two do not fit, or a number of workers is none.
        RuntimeError: ``"slurm"`` outside of a job, or ``"gpu"`` where a host has none.
    """
    names = resolve_hostnames(hostnames)
    local = [is_this_machine(name) if elsewhere is None else name not in elsewhere for name in names]
    counts = _counts(names, workers_per_host, inventory_of)
    return [Host(name=n, workers=c, local=here) for n, c, here in zip(names, counts, local, strict=True)]


def resolve_hostnames(hostnames: Hostnames, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The names meant by ``hostnames``; see :class:`kourou.spmd.Launcher`."""
    in_slurm = "SLURM_JOB_ID" in environ or "SLURM_JOBID" in environ
    if hostnames == "auto":
        hostnames = "slurm" if in_slurm else ["localhost"]
    if hostnames == "slurm":
        if not in_slurm:
            raise RuntimeError(
                "Not in a SLURM job: hostnames='slurm' asks Slurm for the hosts of the job that it is in"
            )
        return slurm_commands.host_names()
    if isinstance(hostnames, str) or not hostnames or not all(isinstance(n, str) and n for n in hostnames):
        raise ValueError(f"hostnames is a list of names, 'auto' or 'slurm', not {shown(hostnames)}")
    twice = sorted({name for name in hostnames if hostnames.count(name) > 1})
    if twice:
        raise ValueError(f"hostnames names {', '.join(twice)} more than once; give it more workers_per_host instead")
    return list(hostnames)


def _counts(
    names: Sequence[str], workers_per_host: WorkersPerHost, inventory_of: Callable[[str], Inventory]
) -> list[int]:
    if isinstance(workers_per_host, str):
        return _devices(names, workers_per_host, inventory_of)
    counts = [workers_per_host] * len(names) if isinstance(workers_per_host, int) else list(workers_per_host)
    if len(counts) != len(names):
        raise ValueError(f"workers_per_host has {len(counts)} numbers for {len(names)} hosts: {', '.join(names)}")
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(
                f"workers_per_host is a number of at least 1, a list of such, 'cpu' or 'gpu', not {shown(count)}"
            )
    return counts


def _devices(names: Sequence[str], kind: str, inventory_of: Callable[[str], Inventory]) -> list[int]:
    if kind not in {"cpu", "gpu"}:
        raise ValueError(f"workers_per_host is a number, a list of numbers, 'cpu' or 'gpu', not {shown(kind)}")
    inventories = [inventory_of(name) for name in names]
    counts = [len(inventory.cpus if kind == "cpu" else inventory.gpus) for inventory in inventories]
    without = [name for name, count in zip(names, counts, strict=True) if not count]
    if without:
        raise RuntimeError(
            f'workers_per_host="{kind}", but no {kind.upper()}s detected on: {without}; '
            'on CPUs, use Launcher(workers_per_host="cpu", backend="gloo")'
        )
    return counts
