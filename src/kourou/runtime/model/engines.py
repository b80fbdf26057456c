"""Engines allocate hosts for a program. What a user says of one is data; what it does is in a room of its own."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kourou import errors
from kourou.runtime.node_environment import COPIED_VARIABLES
from kourou.shown import shown


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
    """``module:class`` of the :class:`kourou.runtime.launchers.engines.base.Engine`; made of these options, ``name``,
    the program's, and ``folder``, for its scripts and for what it says: all hosts see it under the same path."""
    batch: ClassVar[str] = ""
    """``module:object`` of the :class:`kourou.runtime.launchers.engines.base.BatchSystem`; "": it takes no jobs."""
    uniform: ClassVar[bool] = True
    """All hosts get what the fullest one needs; False: each what it needs."""
    known: ClassVar[dict[str, type[EngineOptions]]] = {}
    """Those that are imported, by launch type; see :func:`known_engines`."""

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


def known_engines() -> Mapping[str, type[EngineOptions]]:
    """The options of each engine, by its name: of those that come along, and of those that others have made."""
    importlib.import_module("kourou.runtime.model.engine_options")  # which few programs need
    return EngineOptions.known


def engine_named(value: object) -> EngineOptions | None:
    """The engine that a launch type means: itself, or the one of that name with its defaults; None: it is no engine."""
    if isinstance(value, EngineOptions):
        return value
    kind = known_engines().get(value) if isinstance(value, str) else None
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
    kind = known_engines().get(name)
    if kind is None:
        raise errors.PlanError(f"there is no engine {name!r}; known are {', '.join(sorted(known_engines()))}")
    return kind.from_words(words)


def _typed(name: str, text: str, kind: str, engine: str) -> Any:
    if text == "none" and "None" in kind:
        return None
    try:
        return int(text) if "int" in kind else float(text) if "float" in kind else text
    except ValueError:
        raise errors.PlanError(f"{engine}: {name} is a number, got {text!r}") from None
