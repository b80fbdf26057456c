"""Finding the program that a command line names: ``MODULE:FUNCTION`` or ``path/to/file.py:FUNCTION``."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kourou import errors
from kourou.cli.start.function_arguments import parse_arguments
from kourou.runtime.context import context
from kourou.runtime.graph.program import Program
from kourou.shown import meant, shown
from kourou.tracebacks import format_failure
from kourou.working_folder import import_named


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedProgram:
    """What a function of the user's returned."""

    program: Program
    launch_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of ``lp.launch`` that it returned beside the program."""


def load_program(target: str, words: Sequence[str] = (), *, command: str = "run") -> LoadedProgram:
    """Import the module, call the function, and take what it returns.

    Args:
        target: ``package.module:function`` or ``path/file.py:function``.
        words: the function's arguments as typed.
        command: of which of kourou's commands, for messages.

    Raises:
        PlanError: it cannot be found, or does not return an ``lp.Program`` (or one with a dict of launch arguments), or
            has no such argument.
        SystemExit: ``--help`` among the words (0), or a value that is missing or of another type (2).
    """
    if target.startswith("-"):
        raise errors.PlanError(f"{target} stands where MODULE:FUNCTION belongs: write MODULE:FUNCTION -- {target} …")
    module_name, colon, function_name = target.rpartition(":")
    if not colon or not module_name or not function_name:
        raise errors.PlanError(f"{target!r} names no function: write MODULE:FUNCTION or path/to/file.py:FUNCTION")
    with _users_code(f"{module_name} cannot be imported"), context.no_launch(f"{module_name} is imported"):
        module = import_named(module_name, errors.PlanError)
    function = getattr(module, function_name, None)
    if isinstance(function, Program):
        raise errors.PlanError(f"{target} is an lp.Program: name a function that makes it, and returns it")
    if not callable(function):
        hint = _what_there_is(module, function_name)
        raise errors.PlanError(f"{module_name} has no function {function_name!r}{hint}")
    with _users_code(f"{target} does not take its arguments"):
        args, kwargs = parse_arguments(function, words, f"kourou {command} {target} --")
    with _users_code(f"{target} raised an error"):
        result = function(*args, **kwargs)
    return _unpack(result, target)


def _what_there_is(module: Any, wanted: str) -> str:
    """Which function of the module may be meant, or which there are."""
    functions = inspect.getmembers(module, inspect.isfunction)
    own = [name for name, function in functions if function.__module__ == module.__name__]
    return f"; {meant(wanted, own, 'it has')}"


@contextlib.contextmanager
def _users_code(what: str) -> Iterator[None]:
    """Report errors of the user's code with its own frames only.

    Raises:
        PlanError: in place of an error that is none of ours.
    """
    try:
        yield
    except errors.KourouError:
        raise
    except Exception as error:  # noqa: BLE001 - it is the user's
        told = format_failure(error).rstrip("\n")
        raise errors.PlanError(f"{what}\n{textwrap.indent(told, '    ')}") from None


def _unpack(result: Any, target: str) -> LoadedProgram:
    if isinstance(result, Program):
        return LoadedProgram(program=result)
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Program):  # noqa: PLR2004 - a pair
        return LoadedProgram(program=result[0], launch_kwargs=dict(result[1]))
    raise errors.PlanError(f"{target} returned {shown(result)}; it has to return an lp.Program")
