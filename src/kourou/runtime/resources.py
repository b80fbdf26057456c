"""What a group of nodes gets: arguments, environment, interpreter options. Declared per label, checked when made."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kourou import errors

__all__ = ["PythonProcess"]

EnvSource = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonProcess:
    """How the processes of one label are started (``local_resources={label: PythonProcess(...)}``).

    It has no effect on threads, which share one process: there, use the node's own arguments.
    """

    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``{"name": value}`` becomes ``--name=value`` in the node's ``sys.argv``; True becomes ``--name``, False
    ``--noname``, and a list one argument for each item."""
    interpreter_args: Mapping[str, Any] | Sequence[str] = ()
    """Options of the Python interpreter, as a mapping (``{"X": "dev", "O": True}``) or as they would be typed
    (``["-X", "dev", "-O"]``)."""
    env: EnvSource = dataclasses.field(default_factory=dict)
    """Environment variables on top of the launcher's, or a function of the replica's index that returns them."""

    def __post_init__(self) -> None:
        if not isinstance(self.args, Mapping):
            _refuse("args", "a mapping of names to values", self.args)
        if not callable(self.env) and not isinstance(self.env, Mapping):
            _refuse("env", "a mapping, or a function of the replica's index", self.env)
        if isinstance(self.interpreter_args, str) or not isinstance(self.interpreter_args, (Mapping, Sequence)):
            _refuse("interpreter_args", "a mapping or a list of options", self.interpreter_args)
        self.interpreter_options()

    def arguments(self) -> tuple[str, ...]:
        """The node's command-line arguments."""
        listed: list[str] = []
        for name, value in self.args.items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                listed.append(_argument(str(name), item))
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
                msg = f"interpreter_args: {word!r} is none of the interpreter's options -{', -'.join(_OPTIONS)}"
                raise errors.GraphError(msg)
        return tuple(words)

    def environment(self, index: int) -> dict[str, str]:
        """The environment variables of one replica.

        Raises:
            GraphError: a name or value that no environment can hold.
        """
        given = self.env(index) if callable(self.env) else self.env
        if not isinstance(given, Mapping):
            _refuse("env", "a mapping, or a function of the replica's index that returns one", given)
        environment = {str(name): os.fspath(v) if isinstance(v, os.PathLike) else str(v) for name, v in given.items()}
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name + value:
                msg = f"env: {name!r}={value!r} cannot be an environment variable"
                raise errors.GraphError(msg)
        return environment


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
    msg = f"PythonProcess.{field} is {wanted}, got {got!r}"
    raise errors.GraphError(msg)
