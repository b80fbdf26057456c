"""The place of a worker among others of its kind, and where they meet; told to torch through the environment."""

from __future__ import annotations

import dataclasses
import sys

LOOPBACK_INTERFACE = "lo" if sys.platform == "linux" else "lo0"
"""For GLOO_SOCKET_IFNAME where all ranks are on one machine: otherwise gloo looks that machine's name up, which fails
where it is in no DNS."""


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


def place_variables(place: Place, rendezvous: Rendezvous) -> dict[str, str]:
    """What torch, and all that knows torchrun, reads to find out where it is."""
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "GROUP_RANK": str(place.group_rank),
        "ROLE_RANK": str(place.rank),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "WORLD_SIZE": str(place.world_size),
        "GROUP_WORLD_SIZE": str(place.group_world_size),
        "ROLE_WORLD_SIZE": str(place.world_size),
        "MASTER_ADDR": rendezvous.address,
        "MASTER_PORT": str(rendezvous.port),
    }
