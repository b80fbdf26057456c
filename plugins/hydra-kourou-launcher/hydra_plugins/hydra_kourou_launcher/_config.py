"""What can be said below ``hydra.launcher``. It is imported whenever Hydra starts, so it imports nothing of kourou."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from hydra.core.config_store import ConfigStore

__all__ = ["Backend", "LauncherConf", "SlurmConf"]


class Backend(enum.Enum):
    """Where jobs run: on this host, or on Slurm."""

    processes = "processes"
    slurm = "slurm"


@dataclasses.dataclass
class SlurmConf:
    """The fields of :class:`kourou.experiments.SlurmOptions`."""

    partition: str | None = None
    time: str | None = None
    mem: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus: int | None = None
    gpus: int = 0
    job_name: str | None = None
    extra: list[str] = dataclasses.field(default_factory=list)
    lines: list[str] = dataclasses.field(default_factory=list)
    at_once: int | None = None
    array: bool = True
    max_array_size: int | None = None
    requeues: int = 3
    signal_s: int = 60
    checkpoint_signal: str = "USR1"
    pause_s: float = 0.0
    poll_s: float = 2.0


@dataclasses.dataclass
class LauncherConf:
    """The fields of :class:`kourou.experiments.Share` and :class:`kourou.experiments.SweepOptions`, and where."""

    _target_: str = "hydra_plugins.hydra_kourou_launcher.kourou_launcher.KourouLauncher"
    backend: Backend = Backend.processes
    rerun: str = "lost"
    """In a folder that is used again: what is run again beside what never ran; ``lost``, ``failed`` or ``all``."""
    parallel: int | None = None
    gpus: int | None = None
    runs_per_gpu: int | None = None
    gpus_per_run: int | None = None
    cpus_per_run: int | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    retry: dict[str, int] = dataclasses.field(default_factory=dict)
    """How often a job is run again, by the kind of its failure: ``{signal: 2}``."""
    time_limit_s: float | None = None
    fail_fast: bool = False
    pause_s: float = 0.0
    interrupt_s: float = 10.0
    terminate_s: float = 2.0
    preload: list[str] = dataclasses.field(default_factory=list)
    slurm: SlurmConf = dataclasses.field(default_factory=SlurmConf)


node: Any = LauncherConf
ConfigStore.instance().store(group="hydra/launcher", name="kourou", node=node, provider="hydra-kourou-launcher")
