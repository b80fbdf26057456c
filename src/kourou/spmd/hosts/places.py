"""The hosts of a run, and who runs where."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from kourou.nodes.ranks import Place


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """One of a run's hosts."""

    name: str
    """As the user wrote it."""
    workers: int
    local: bool
    """It is this machine."""


def assign_ranks(hosts: Sequence[Host]) -> list[Place]:
    """The places of all workers: ranks count through the hosts in their order."""
    ranks, world_size = itertools.count(), sum(host.workers for host in hosts)
    return [
        Place(
            rank=next(ranks),
            local_rank=local_rank,
            group_rank=group_rank,
            hostname=host.name,
            world_size=world_size,
            local_world_size=host.workers,
            group_world_size=len(hosts),
        )
        for group_rank, host in enumerate(hosts)
        for local_rank in range(host.workers)
    ]
