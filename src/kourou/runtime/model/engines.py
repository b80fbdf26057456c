"""Engines allocate hosts for a program. What a user says of one is data; what it does is in a room of its own."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from kourou import errors
from kourou.runtime.model.hosts import COPIED_VARIABLES
from kourou.runtime.model.slurm_job import SlurmJob
from kourou.shown import shown

__all__ = ["EngineOptions", "HostNeeds", "Kubernetes", "Ray", "Shape", "Slurm", "engine_named", "engine_of"]

_OF_A_GROUP = (
    *("nodes", "cpus_per_node", "gpus_per_node", "partition", "mem", "account", "qos", "constraint", "gres", "extra"),
)
_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")  # of Ray


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostNeeds:
    """What the nodes on one host ask for."""

    cpus: int
    gpus: int
    memory_bytes: int = 0
    """0: nobody has said."""
    group: str = ""
    """A group that has hosts of this kind, see ``EngineOptions.of_group``; "": groups that nothing is said of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What a program asks of its engine: so many hosts, with so much each."""

    hosts: int
    cpus: int
    gpus: int
    each: tuple[HostNeeds, ...] = ()
    """What each host needs by itself, for engines whose hosts may differ; those of one kind one after another."""

    @property
    def group(self) -> str:
        """Of hosts that are of one kind: see :class:`HostNeeds`."""
        return self.each[0].group if self.each else ""

    @property
    def parts(self) -> tuple[Shape, ...]:
        """Its hosts of each kind, in the order of places; where there is one kind, itself."""
        kinds = [tuple(alike) for _, alike in itertools.groupby(self.each, key=lambda needs: needs.group)]
        if len(kinds) <= 1:
            return (self,)
        return tuple(
            Shape(hosts=len(kind), cpus=max(n.cpus for n in kind), gpus=max(n.gpus for n in kind), each=kind)
            for kind in kinds
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What all engines are told. The number of hosts, and what each has, comes from the program unless it is said here.

    Raises:
        GraphError: a field has no meaning.
    """

    launch_type: ClassVar[str] = ""
    implementation: ClassVar[str] = ""
    """``module:class`` of the :class:`kourou.runtime.launchers.engines.base.Engine`."""
    batch: ClassVar[str] = ""
    """``module:object`` of the :class:`kourou.runtime.launchers.engines.base.BatchSystem`; "": it takes no jobs."""
    uniform: ClassVar[bool] = True
    """All hosts get what the fullest one needs; False: each what it needs."""
    known: ClassVar[dict[str, type[EngineOptions]]] = {}

    nodes: int | None = None
    """Hosts of the allocation. None: as many as ``placement`` names, or one."""
    cpus_per_node: int | None = None
    """CPUs of each. None: what the processes on it ask for; one that asks for nothing counts as one CPU."""
    gpus_per_node: int | None = None
    """GPUs of each. None: what the processes on it ask for."""
    connect_timeout_s: float = 60.0
    """For an agent to call, once its host was allocated."""
    lost_after_s: float = 15.0
    """A host that is silent for so long is lost, with all nodes on it. Shorter cuts are survived."""
    copy_env_vars: tuple[str, ...] = COPIED_VARIABLES
    """Patterns of names: these variables of the launcher are set on the hosts."""

    def __init_subclass__(cls) -> None:
        if cls.launch_type:
            EngineOptions.known[cls.launch_type] = cls

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("cpus_per_node", 1), ("gpus_per_node", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise errors.GraphError(f"{type(self).__name__}: {name} is at least {least}, got {shown(value)}")
        for name in ("connect_timeout_s", "lost_after_s"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
                raise errors.GraphError(
                    f"{type(self).__name__}: {name} is a number of seconds above 0, got {shown(seconds)}"
                )

    @classmethod
    def from_words(cls, words: Sequence[str]) -> EngineOptions:
        """Options as a command line has them: ``field=value``, and ``GROUP.field=value`` for the hosts of a group.

        Raises:
            PlanError: a word has no meaning.
        """
        own = [word for word in words if "." not in word.partition("=")[0]]
        given, groups = cls._given(own), dict[str, list[str]]()
        for word in words:
            group = word.partition("=")[0].rpartition(".")[0]
            if group:
                groups.setdefault(group, []).append(word[len(group) + 1 :])
        if groups and "groups" not in cls.__dataclass_fields__:
            raise errors.PlanError(
                f"{cls.launch_type}: its hosts are all alike, so nothing is said of {', '.join(groups)} alone"
            )
        if groups:
            given["groups"] = {name: cls._given(said) for name, said in groups.items()}
        return cls(**given)

    @classmethod
    def _given(cls, words: Sequence[str]) -> dict[str, Any]:
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "groups"}
        given: dict[str, Any] = {}
        for word in words:
            name, equals, text = word.partition("=")
            name = name.replace("-", "_")
            if not equals or name not in fields:
                raise errors.PlanError(f"{cls.launch_type}: {word!r} is none of {', '.join(f'{f}=…' for f in fields)}")
            if "tuple" in str(fields[name].type):
                given[name] = (*given.get(name, ()), text)
            elif "Mapping" in str(fields[name].type):
                key, _, amount = text.partition("=")
                kind = str(fields[name].type).rpartition(",")[2]
                given[name] = {**given.get(name, {}), key: _typed(name, amount, kind, cls.launch_type)}
            else:
                given[name] = _typed(name, text, str(fields[name].type), cls.launch_type)
        return given

    def of_group(self, label: str) -> EngineOptions:
        """What the hosts of a group are asked for with; "": those of groups that nothing is said of."""
        del label
        return self

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {"name": self.launch_type, **dataclasses.asdict(self)}


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


def engine_named(value: object) -> EngineOptions | None:
    """The engine that a launch type means: itself, or the one of that name with its defaults; None: it is no engine."""
    if isinstance(value, EngineOptions):
        return value
    kind = EngineOptions.known.get(value) if isinstance(value, str) else None
    return None if kind is None else kind()


def engine_of(name: str | None, words: Sequence[str]) -> EngineOptions | None:
    """What ``--on`` and its ``-o field=value`` mean; None when it was not given.

    Raises:
        PlanError: there is no such engine, or a word has no meaning for it.
    """
    if name is None:
        if words:
            raise errors.PlanError(f"-o {words[0]} is an option of an engine: name it with --on")
        return None
    kind = EngineOptions.known.get(name)
    if kind is None:
        raise errors.PlanError(f"there is no engine {name!r}; known are {', '.join(sorted(EngineOptions.known))}")
    return kind.from_words(words)


def _typed(name: str, text: str, kind: str, engine: str) -> Any:
    if text == "none" and "None" in kind:
        return None
    try:
        return int(text) if "int" in kind else float(text) if "float" in kind else text
    except ValueError:
        raise errors.PlanError(f"{engine}: {name} is a number, got {text!r}") from None


def _slurm_arguments(options: Slurm, name: str, shape: Shape) -> list[str]:
    further = {
        "--nodes": shape.hosts,
        "--ntasks-per-node": 1,
        "--cpus-per-task": shape.cpus,
        "--gres": options.gres or (f"gpu:{shape.gpus}" if shape.gpus else None),
    }
    # A host that fails ends what is on it, and not the job.
    return [*options.asked(name, further), "--no-kill", *options.extra]
