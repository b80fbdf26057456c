"""The engines that come along, and what a user can say of each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from kourou import errors
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.slurm_job import SlurmJob
from kourou.shown import shown

_OF_A_GROUP = (
    *("nodes", "cpus_per_node", "gpus_per_node", "partition", "mem", "account", "qos", "constraint", "gres", "extra"),
)
_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")  # of Ray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm(SlurmJob, EngineOptions):
    """Hosts that Slurm allocates; inside an allocation (SLURM_JOB_ID is set), those that it has.

    What is not said is left to the cluster's defaults.

    Raises:
        GraphError: a field has no meaning.
    """

    launch_type: ClassVar[str] = "slurm"
    implementation: ClassVar[str] = "kourou.runtime.launchers.engines.slurm:SlurmEngine"
    batch: ClassVar[str] = "kourou.runtime.launchers.engines.slurm_batch:BATCH"

    gres: str | None = None
    """Instead of ``gpu:N``, such as ``gpu:a100:4``."""
    groups: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Label → options of the hosts of its processes, as ``{"learner": {"partition": "gpu", "gres": "gpu:a100:1"}}``:
    the job is a heterogeneous one then. What is not said of a group is as above, but for ``nodes``, what each has, and
    ``gres``. Groups of which the same is said share their hosts."""

    def __post_init__(self) -> None:
        EngineOptions.__post_init__(self)
        SlurmJob.__post_init__(self)
        for label in self.groups:
            self.of_group(label)

    def of_group(self, label: str) -> Slurm:
        """See :class:`EngineOptions`.

        Raises:
            GraphError: an option is unknown, or is of the whole job.
        """
        said = self.groups.get(label)
        if said is None:
            return dataclasses.replace(self, groups={})
        if unknown := [field for field in said if field not in _OF_A_GROUP]:
            raise errors.GraphError(
                f"Slurm: groups[{label!r}]: {', '.join(unknown)} is none of {', '.join(_OF_A_GROUP)}"
            )
        own = dict.fromkeys(("nodes", "cpus_per_node", "gpus_per_node", "gres"))
        return dataclasses.replace(self, groups={}, **{**own, **said})

    def arguments(self, name: str, shape: Shape, *further: str) -> list[str]:
        """What salloc and sbatch are told: of a heterogeneous job, the components one after another."""
        first, *others = shape.parts
        told = [*_slurm_arguments(self.of_group(first.group), name, first), *further]
        for part in others:
            told += [":", *_slurm_arguments(self.of_group(part.group), name, part)]
        return told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ray(EngineOptions):
    """Hosts that are bundles of a placement group of Ray's; inside a job of ``ray job submit``, of its cluster.

    Raises:
        GraphError: a field has no meaning.
    """

    launch_type: ClassVar[str] = "ray"
    implementation: ClassVar[str] = "kourou.runtime.launchers.engines.ray_engine:RayEngine"

    address: str | None = "auto"
    """As ``ray.init`` takes it: ``host:port``; "auto": of RAY_ADDRESS, else the cluster that runs on this host; None:
    one that is started here, where there is none."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "SPREAD"
    """How the hosts are laid on Ray's nodes. SPREAD: on different ones where that can be."""
    memory: int | None = None
    """Bytes of each host that Ray sets aside."""
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Further resources of each host, by Ray's names."""
    accelerator_type: str | None = None
    """Of the nodes, such as ``A100``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in _STRATEGIES:
            raise errors.GraphError(f"Ray: strategy is one of {', '.join(_STRATEGIES)}, got {shown(self.strategy)}")

    def bundle(self, shape: Shape) -> dict[str, float]:
        """What each host has, in Ray's words."""
        said = {
            "CPU": shape.cpus,
            "GPU": shape.gpus,
            "memory": self.memory,
            f"accelerator_type:{self.accelerator_type}": 0.001 if self.accelerator_type else None,  # as Ray asks for it
            **self.resources,
        }
        return {name: amount for name, amount in said.items() if amount}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kubernetes(EngineOptions):
    """Hosts that are pods of a JobSet, which has to be installed in the cluster. Each gets what its own nodes ask for.

    Raises:
        GraphError: a field has no meaning, or there is no image.
    """

    launch_type: ClassVar[str] = "kubernetes"
    implementation: ClassVar[str] = "kourou.runtime.launchers.engines.kubernetes:engine"
    batch: ClassVar[str] = "kourou.runtime.launchers.engines.kubernetes_batch:BATCH"
    uniform: ClassVar[bool] = False

    image: str = ""
    """Of all pods, with kourou in it, and Python of this process's minor version. Has to be said."""
    namespace: str | None = None
    """None: that of kubectl's context."""
    context: str | None = None
    """kubectl's; None: the current one."""
    queue: str | None = None
    """A LocalQueue of Kueue's, which then decides when the pods start."""
    tree: str | None = "."
    """The folder that travels into all pods and is the working folder there; None ("none" on a command line): the
    image has the code."""
    claim: str | None = None
    """A PersistentVolumeClaim that many pods may write: the run's folder is on it, and so outlives pods."""
    python: str = "python3"
    """The interpreter in the image."""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variables of all pods."""
    memory: str | None = None
    """Of each host, such as ``16Gi``. None: what the nodes on it ask for (``memory_bytes``), if all of them do."""
    ephemeral_storage: str | None = None
    """Of each host, such as ``50Gi``."""
    shm: str | None = None
    """Most that ``/dev/shm`` may take, such as ``8Gi``; it counts as memory. None: as much as there is."""
    gpu_resource: str = "nvidia.com/gpu"
    launcher: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"cpu": "1", "memory": "1Gi"})
    """What the launcher's own pod requests."""
    restarts: int = 3
    """How often a launcher whose pod fails, other than because the program does, is started again; what evicts and
    preempts pods is not counted."""
    ttl_s: int = 86400
    """How long what has ended is kept, for ``kourou logs``."""
    run_as_user: int | None = 1000
    """The user in all pods; None: the image's own, which must not be root."""
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels of the cluster's nodes that hosts may run on."""
    tolerations: tuple[str, ...] = ()
    """Taints that hosts tolerate, as kubectl writes them: ``key=value:NoSchedule``, ``key:NoSchedule`` or ``key``."""
    priority_class: str | None = None
    service_account: str | None = None
    image_pull_secret: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.image:
            raise errors.GraphError("Kubernetes: image is missing: the container image of all pods (-o image=…)")
        for name, least in (("restarts", 0), ("ttl_s", 0), ("run_as_user", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise errors.GraphError(f"Kubernetes: {name} is at least {least}, got {shown(value)}")
        for name in ("memory", "ephemeral_storage", "shm"):
            value = getattr(self, name)
            if value is not None and not _QUANTITY.fullmatch(value):
                raise errors.GraphError(f"Kubernetes: {name} is an amount such as '16Gi', got {shown(value)}")


_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


def _slurm_arguments(options: Slurm, name: str, shape: Shape) -> list[str]:
    further = {
        "--nodes": shape.hosts,
        "--ntasks-per-node": 1,
        "--cpus-per-task": shape.cpus,
        "--gres": options.gres or (f"gpu:{shape.gpus}" if shape.gpus else None),
    }
    # A host that fails ends what is on it, and not the job.
    return [*options.asked(name, further), "--no-kill", *options.extra]
