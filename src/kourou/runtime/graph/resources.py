"""What a group of nodes gets: arguments, environment, interpreter options. Declared per label, checked when made."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from kourou import errors
from kourou.runtime.node_environment import as_variables
from kourou.shown import shown

T = TypeVar("T")
EnvSource: TypeAlias = "Mapping[str, Any] | Callable[[int], Mapping[str, Any]]"
PerReplica: TypeAlias = "T | Callable[[int], T]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonProcess:
    """How the processes of one label are started (``local_resources={label: PythonProcess(...)}``).

    Nodes that are threads share one process, in which only ``setup`` has an effect.
    """

    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``{"name": value}`` becomes ``--name=value`` in the node's ``sys.argv``; True becomes ``--name``, False
    ``--noname``, and a list one argument for each item. abseil's flags have these values in the node."""
    interpreter_args: Mapping[str, Any] | Sequence[str] = ()
    """Options of the Python interpreter, as a mapping (``{"X": "dev", "O": True}``) or as they would be typed
    (``["-X", "dev", "-O"]``). None given: those that the launcher was started with."""
    env: EnvSource = dataclasses.field(default_factory=dict)
    """Environment variables on top of the launcher's, or a function of the replica's index that returns them."""
    setup: Callable[[], object] | None = None
    """Called in each process before its node is unpickled, and in the processes that the node starts by spawn or
    forkserver: what the script sets up at its top (environments that are registered, logging, torch's defaults). Nodes
    that are threads find it called once. None: nothing is."""
    preload: Sequence[str] | None = None
    """Modules that the processes are forked with, imported once for all of them; what a module drew at random when it
    was imported is the same in all of them, but for the global generators of NumPy and torch. None: those of NumPy,
    torch and gymnasium that several of the nodes import anyway, if there is no ``setup``, which comes after."""

    def __post_init__(self) -> None:
        if not isinstance(self.args, Mapping):
            _refuse("args", "a mapping of names to values", self.args)
        if not callable(self.env) and not isinstance(self.env, Mapping):
            _refuse("env", "a mapping, or a function of the replica's index", self.env)
        if self.setup is not None and not callable(self.setup):
            _refuse("setup", "a function without arguments", self.setup)
        if isinstance(self.interpreter_args, str) or not isinstance(self.interpreter_args, (Mapping, Sequence)):
            _refuse("interpreter_args", "a mapping or a list of options", self.interpreter_args)
        if self.preload is not None and (isinstance(self.preload, str) or not _are_modules(self.preload)):
            _refuse("preload", "a list of names of modules", self.preload)
        self.interpreter_options()

    def arguments(self) -> tuple[str, ...]:
        """The node's command-line arguments."""
        listed: list[str] = []
        for name, value in self.args.items():
            items = value if isinstance(value, (list, tuple)) else [value]
            listed += [_argument(str(name), item) for item in items]
        return tuple(listed)

    def interpreter_options(self) -> tuple[str, ...]:
        """The interpreter's options, each as one word.

        Raises:
            GraphError: not an option that the interpreter takes for a module it runs.
        """
        if isinstance(self.interpreter_args, Mapping):
            words = [word for k, v in self.interpreter_args.items() for word in _option_words(str(k), v)]
        else:
            words = _joined([str(word) for word in self.interpreter_args])
        for word in words:
            if word[:1] != "-" or word[1:2] not in _OPTIONS:
                raise errors.GraphError(
                    f"interpreter_args: {word!r} is none of the interpreter's options -{', -'.join(_OPTIONS)}"
                )
        return tuple(words)

    def environment(self, index: int) -> dict[str, str]:
        """The environment variables of one replica.

        Raises:
            GraphError: a name or value that no environment can hold.
        """
        given = self.env(index) if callable(self.env) else self.env
        if not isinstance(given, Mapping):
            _refuse("env", "a mapping, or a function of the replica's index that returns one", given)
        try:
            return as_variables(given)
        except ValueError as error:
            raise errors.GraphError(f"env: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources(PythonProcess):
    """A :class:`PythonProcess` with a share of the machine.

    Every field may be a value, or a function of the replica's index that returns one. Nodes that ask for nothing are
    not limited. Asking for more than the launcher may use is an error of the plan.
    """

    cpus: PerReplica[float | None] = None
    """CPUs for the process alone: 1, 2, …, as its real affinity, within the launcher's own. A fraction shares one CPU
    with others. OMP_NUM_THREADS and its like are set to match, unless they are set already."""
    gpus: PerReplica[float | None] = None
    """GPUs for the process alone: 1, 2, …, as its CUDA_VISIBLE_DEVICES. A fraction shares one GPU with others (nothing
    limits the memory that each takes of it); 0 hides all."""
    memory_bytes: PerReplica[int | None] = None
    """Bytes of memory of its own (resident, not shared) that the node and all that it starts may take; a node that
    takes more is killed, and its exit record says so."""
    cwd: PerReplica[str | os.PathLike[str] | None] = None
    """Its working folder; None: the launcher's."""
    interpreter: PerReplica[str | os.PathLike[str] | None] = None
    """Path of its Python, of the launcher's version and with kourou installed; None: the launcher's own."""

    def amount(self, field: str, index: int) -> float | None:
        """What replica ``index`` asks of ``cpus`` or ``gpus``.

        Raises:
            GraphError: neither a fraction of one nor a whole number.
        """
        value = _of_replica(getattr(self, field), index)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise errors.GraphError(f"{field} is a number >= 0, got {shown(value)}")
        if value > 1 and value != int(value):
            raise errors.GraphError(f"{field} above 1 are whole, since only one can be shared; got {shown(value)}")
        return float(value)

    def memory_limit(self, index: int) -> int | None:
        """The memory limit of a replica, in bytes.

        Raises:
            GraphError: not a positive whole number.
        """
        value = _of_replica(self.memory_bytes, index)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
            raise errors.GraphError(f"memory_bytes is a whole number of bytes > 0, got {shown(value)}")
        return value

    def folder(self, index: int) -> str | None:
        """The working folder of a replica.

        Raises:
            GraphError: there is no such folder.
        """
        value = _of_replica(self.cwd, index)
        if value is not None and not Path(value).is_dir():
            raise errors.GraphError(f"cwd: there is no folder {os.fspath(value)!r}")
        return None if value is None else str(Path(value).absolute())

    def python(self, index: int) -> str | None:
        """The interpreter of a replica.

        Raises:
            GraphError: it is no file that can be executed.
        """
        value = _of_replica(self.interpreter, index)
        if value is None:
            return None
        import shutil  # noqa: PLC0415 - nodes ask for no resources

        found = shutil.which(value)
        if found is None:
            raise errors.GraphError(f"interpreter: {os.fspath(value)!r} is nothing that can be executed")
        return str(Path(found).absolute())


def _are_modules(preload: Sequence[object]) -> bool:
    return isinstance(preload, Sequence) and all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in preload
    )


def _of_replica(value: PerReplica[T], index: int) -> T:
    return value(index) if callable(value) else value  # pyright: ignore[reportReturnType]  # T is not callable


# Those that change what the interpreter runs (-c, -m), or ask instead of running (-h, -V), have no meaning here.
_OPTIONS = "bBdEIOPqRsSuvWxX"
_WITH_VALUE = "WX"


def _argument(name: str, value: object) -> str:
    if value is True:
        return f"--{name}"
    if value is False:
        return f"--no{name}"
    return f"--{name}" if value is None else f"--{name}={value}"


def _option_words(name: str, value: object) -> list[str]:
    option = "-" + name.lstrip("-")
    if value is False:
        return []
    if value is True or value is None:
        return [option]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [f"{option}{item}" for item in values]


def _joined(words: list[str]) -> list[str]:
    """``-X dev`` as ``-Xdev``, so that every option is one word."""
    joined: list[str] = []
    takes_next = False
    for word in words:
        if takes_next:
            joined[-1] += word
            takes_next = False
        else:
            joined.append(word)
            takes_next = len(word) == 2 and word[1] in _WITH_VALUE  # noqa: PLR2004 - a dash and a letter
    return joined


def _refuse(field: str, wanted: str, got: object) -> None:
    raise errors.GraphError(f"PythonProcess.{field} is {wanted}, got {shown(got)}")
