"""A process that is to be started, as whoever starts it sees it: what it runs, and what that needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from kourou.cpython import interpreter_options
from kourou.runtime.node_environment import gpus_of, with_devices

Blobs = Mapping[str, "bytes | memoryview"]
"""Parts of payloads, by their SHA-256."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payload:
    """The names of a payload's blobs."""

    stream: str
    """SHA-256 of the pickle stream."""
    buffers: tuple[str, ...] = ()
    """SHA-256 of each buffer, in the stream's order."""
    script: str = ""
    """SHA-256 of the script's snapshot, which all payloads of a program share."""
    script_buffers: tuple[str, ...] = ()
    size_bytes: int = 0
    """Stream and buffers, without the script's."""

    @property
    def blobs(self) -> tuple[str, ...]:
        """The names of all."""
        return tuple(name for name in (self.stream, *self.buffers, self.script, *self.script_buffers) if name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One operating-system process: a node's payload in a Python process, or a command.

    ``payload`` given: ``argv`` is the node's ``sys.argv``. Not given: ``argv`` is the command.
    """

    name: str
    """``label/index``."""
    argv: tuple[str, ...]
    payload: Payload | None = None
    interpreter: str = ""
    """Path of the Python that runs the payload."""
    interpreter_args: tuple[str, ...] = dataclasses.field(default_factory=interpreter_options)
    """Its options; by default the launcher's own."""
    env: tuple[tuple[str, str], ...] = ()
    """What differs from the launcher's environment, sorted."""
    cwd: str = ""
    """Working folder; empty: the launcher's."""
    cpus: tuple[int, ...] | None = None
    """The CPUs that it may run on; None: the launcher's."""
    memory_bytes: int | None = None
    """Resident memory of its own that it and all that it starts may take; None: no limit."""
    merge_stderr: bool = True
    """Standard error goes where standard output goes, in the order in which it was written."""
    preload: tuple[str, ...] = ()
    """Modules that it finds imported already, if they can be forked."""

    @property
    def gpus(self) -> tuple[str, ...] | None:
        """The GPUs that it sees; None: the launcher's."""
        return gpus_of(dict(self.env))

    def with_devices(self, cpus: tuple[int, ...] | None, gpus: Sequence[str] | None) -> ProcessSpec:
        """The same on these CPUs and GPUs; None: the launcher's CPUs, the GPUs that it saw before."""
        threads = None if cpus is None else max(1, len(cpus))
        env = with_devices(dict(self.env), threads, gpus)
        return dataclasses.replace(self, env=tuple(sorted(env.items())), cpus=cpus)


def unneeded_blobs(gone: Iterable[ProcessSpec | None], left: Iterable[ProcessSpec | None]) -> set[str]:
    """The parts of payloads that only those processes would have needed which are gone."""
    of_gone, of_left = (
        {blob for spec in specs if spec and spec.payload for blob in spec.payload.blobs} for specs in (gone, left)
    )
    return of_gone - of_left
