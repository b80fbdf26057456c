"""What a zygote imports before it forks, and the variables that these modules read when they are imported."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

__all__ = ["COMMANDS", "NODES", "Preload", "read_early", "reseed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preload:
    """What the processes of one kind find imported already.

    None of the modules may start anything that a fork cannot carry along: threads, channels, devices.
    """

    modules: tuple[str, ...] = ()
    """By name. None at all: only commands are run."""
    reads: tuple[str, ...] = ()
    """How the environment variables begin that these modules read when they are imported: a fork comes too late for
    them, so processes that differ in one come from different zygotes."""


COMMANDS = Preload()
"""For commands, which execute something else."""

NODES = Preload(
    modules=(
        "grpc._channel",
        "grpc._server",
        "grpc_health.v1.health",
        "grpc_reflection.v1alpha.reflection",
        "kourou.courier.lanes.grpc.client",
        "kourou.courier.lanes.grpc.server",
        "kourou.courier.lanes.inproc",
        "kourou.courier.lanes.local.client",
        "kourou.courier.lanes.local.server",
        "kourou.nodes",
        "kourou.runtime.node_process.main",
    ),
    reads=("GRPC_",),
)
"""For nodes of a program: what every one of them would import by itself."""


def read_early(env: Mapping[str, str], preload: Preload) -> dict[str, str]:
    """The variables that a starting interpreter, loader, allocator or preloaded module reads: a fork comes too late."""
    prefixes = (*_READ_AT_START, *preload.reads)
    return {name: value for name, value in env.items() if name.startswith(prefixes)}


_READ_AT_START = (
    *("PYTHON", "LC_", "LANG", "OPENSSL_"),
    *("LD_", "DYLD_", "MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_"),
)


def reseed() -> None:
    """Give this forked process random numbers of its own, as one would have that imported its modules itself.

    NumPy and torch draw the seeds of their global generators when they are imported, and a fork inherits them. Python's
    own generator draws a new one in every fork; torch's for devices draw theirs when the device is first used.
    """
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.default_generator.seed()
