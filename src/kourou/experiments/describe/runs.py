"""One run of a sweep as data: what is to be run, with which parameters and seed, and where."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from kourou.experiments.failures import DescriptionError
from kourou.runtime.graph.program import Program
from kourou.shown import shown

ProgramSource: TypeAlias = "Program | Callable[..., Program]"
_SEED_BITS = 31
"""Every generator takes seeds below 2**31: C's signed integers, NumPy's old generator, environments."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run. It is data only: nothing is started."""

    name: str
    """Names the run in tables and messages."""
    folder: str
    """Where it writes: a path that no other run of the sweep has."""
    command: tuple[str, ...] | None = None
    """A command line, one text for each argument, so that spaces and quotes in values arrive as they are."""
    function: Callable[..., Any] | None = None
    """Or a function, called with ``arguments`` as keywords."""
    program: ProgramSource | None = None
    """Or a program; or a function that makes it, called with ``arguments`` as keywords."""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Environment variables on top of the launcher's."""
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The parameters that set this run apart."""
    seed: int | None = None
    """Its seed; None: the sweep leaves seeding to the run."""
    seed_param: str | None = None
    """The parameter by which a function or command gets the seed; None: it does not."""
    repeat: int = 0
    """Which repeat of its setting this is, from 0."""
    setting: str = ""
    """Identifies the setting (what is run, with which parameters and environment); empty: made from this run."""

    def __post_init__(self) -> None:
        chosen = [what for what in (self.command, self.function, self.program) if what is not None]
        if len(chosen) != 1:
            raise DescriptionError(
                f"run {self.name!r} is a command, a function or a program; got {len(chosen)} of them"
            )
        self._check_command()
        for name, value in self.env.items():
            if not isinstance(name, str) or not name or set(name) & set("=\0"):
                raise DescriptionError(f"run {self.name!r}: {name!r} cannot be the name of an environment variable")
            if not isinstance(value, str) or "\0" in value:
                raise DescriptionError(f"run {self.name!r}: environment variable {name} is a text, got {value!r}")
        if self.repeat < 0 or (self.seed is not None and self.seed < 0):
            raise DescriptionError(f"run {self.name!r}: seed {self.seed} and repeat {self.repeat} are at least 0")
        if not self.name or not self.folder or "\0" in self.folder:
            raise DescriptionError(f"a run has a name and a folder, got {self.name!r} and {self.folder!r}")
        if not self.setting:
            what = self.command or self.function or self.program
            try:
                setting = setting_id(what, self.params, self.env)
            except DescriptionError as error:
                raise DescriptionError(f"run {self.name!r}: {error}") from error
            object.__setattr__(self, "setting", setting)

    def _check_command(self) -> None:
        if self.command is None:
            return
        if isinstance(self.command, str):
            raise DescriptionError(
                f"run {self.name!r}: a command is a sequence with a text for each argument, got {shown(self.command)}; "
                "shlex.split makes one of a line for a shell"
            )
        if not self.command or not self.command[0]:
            raise DescriptionError(f"run {self.name!r} has an empty command")
        for argument in self.command:
            if not isinstance(argument, str) or "\0" in argument:
                raise DescriptionError(f"run {self.name!r}: {argument!r} cannot be an argument of a command")

    @property
    def run_id(self) -> str:
        """Identifies the run in a sweep's journal: the same in every launch, wherever in the order it comes."""
        return f"{self.setting}-{self.repeat}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What a function is called with: the parameters and, if it takes one, the seed."""
        seed = {self.seed_param: self.seed} if self.seed_param is not None and self.seed is not None else {}
        return {**self.params, **seed}


def setting_id(what: Any, params: Mapping[str, Any], env: Mapping[str, Any]) -> str:
    """Identify a setting by its content: 16 hexadecimal digits, whatever the order of parameters.

    Raises:
        DescriptionError: a value without a text that would be the same in the next launch.
    """
    try:
        content = json.dumps([what, dict(params), dict(env)], sort_keys=True, default=_canonical)
    except DescriptionError:
        raise
    except (TypeError, ValueError) as error:
        raise DescriptionError(f"parameters {params!r} cannot identify a run: {error}") from error
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def run_seed(root: int, setting: str, repeat: int) -> int:
    """The seed of a run, from 0 to 2**31 - 1. It depends on nothing but these three.

    Args:
        root: the sweep's seed.
        setting: ``RunSpec.setting``.
        repeat: which repeat, from 0.
    """
    digest = hashlib.blake2b(f"{root}/{setting}/{repeat}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _SEED_BITS)


def check_runs(runs: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """The runs, once it is sure that no two are the same and no two share a folder.

    Raises:
        DescriptionError: naming both.
    """
    checked = tuple(runs)
    by_id: dict[str, RunSpec] = {}
    by_folder: dict[str, RunSpec] = {}
    for run in checked:
        same = by_id.setdefault(run.run_id, run)
        if same is not run:
            raise DescriptionError(
                f"runs {same.name!r} and {run.name!r} are the same: {dict(run.params) or 'no parameters'}; "
                "to run a setting several times, ask for repeats"
            )
        # Some file systems do not tell a from A.
        neighbour = by_folder.setdefault(os.path.normpath(run.folder).casefold(), run)
        if neighbour is not run:
            raise DescriptionError(
                f"runs {neighbour.name!r} and {run.name!r} would share the folder {run.folder} "
                "(upper and lower case count as the same, as on some file systems)"
            )
    return checked


def _canonical(value: Any) -> Any:
    """What stands for a value in a setting's content.

    Raises:
        DescriptionError: its text changes with every launch.
    """
    for applies, text in _TEXTS:
        if applies(value):
            return text(value)
    raise DescriptionError(
        f"an object of type {type(value).__qualname__} cannot identify a run, since its text changes with every "
        "launch: give it a __repr__ that tells what is in it, or use a name and look the object up in the run"
    )


def _fields(value: Any) -> dict[str, Any]:
    return {type(value).__qualname__: {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}}


_TEXTS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (lambda value: isinstance(value, Program), lambda value: f"program {value.name}"),
    (lambda value: isinstance(value, enum.Enum), str),
    (lambda value: isinstance(value, os.PathLike), os.fspath),
    (lambda value: dataclasses.is_dataclass(value) and not isinstance(value, type), _fields),
    (lambda value: callable(getattr(value, "tolist", None)), lambda value: value.tolist()),  # NumPy's and torch's
    (lambda value: hasattr(value, "__qualname__"), lambda value: f"{value.__module__}:{value.__qualname__}"),
    (lambda value: isinstance(value, (set, frozenset)), lambda value: sorted(map(repr, value))),
    (lambda value: not repr(value).startswith("<"), repr),
)
