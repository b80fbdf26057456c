"""Who is who in a run: hosts, ranks, and where ranks meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["Host", "Place", "Rendezvous", "lay_out"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """One of a run's hosts."""

    name: str
    """As the user wrote it."""
    workers: int
    local: bool
    """It is this machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where one worker stands."""

    rank: int
    local_rank: int
    group_rank: int
    """The number of its host."""
    hostname: str
    world_size: int
    local_world_size: int
    group_world_size: int
    """How many hosts there are."""

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.hostname}[{self.local_rank}])"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendezvous:
    """Where rank 0 listens for the others. The port was bound before anybody was told of it."""

    address: str
    port: int


def lay_out(hosts: Sequence[Host]) -> list[Place]:
    """The places of all workers: ranks count through the hosts in their order."""
    world_size = sum(host.workers for host in hosts)
    places: list[Place] = []
    for group_rank, host in enumerate(hosts):
        first = len(places)
        places.extend(
            Place(
                rank=first + local_rank,
                local_rank=local_rank,
                group_rank=group_rank,
                hostname=host.name,
                world_size=world_size,
                local_world_size=host.workers,
                group_world_size=len(hosts),
            )
            for local_rank in range(host.workers)
        )
    return places
