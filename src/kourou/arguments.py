"""Arguments as programs written for other projects give them: by other names, or where they change nothing here."""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from kourou import cpython

F = TypeVar("F", bound=Callable[..., Any])


def also_named(*, formerly: Mapping[str, str] | None = None, **elsewhere: str) -> Callable[[F], F]:
    """Let a function take keyword arguments by other names, too: other name → name here.

    Type checkers, ``help`` and completion know the names here only. Milliseconds (``…_ms``) become seconds where the
    name here is one of seconds; fewer than 0 are None, as Reverb has it. Over a dataclass, the other names are those of
    its attributes, too.

    Args:
        formerly: names of kourou's own from earlier versions, which warn.
        elsewhere: names that other projects have for it, which do not.
    """
    former = formerly or {}
    names = {**elsewhere, **former}
    others = frozenset(names)

    def decorate(function: F) -> F:
        if isinstance(function, type):
            _rename_fields(function, names)
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]  # a class is what is changed here
            return cast("F", function)

        unknown = set(names.values()).difference(function.__code__.co_varnames)
        assert not unknown, f"{function.__qualname__} has no {unknown}"  # noqa: S101 - a slip of whoever decorates

        @functools.wraps(function)
        def accepting(*args: Any, **kwargs: Any) -> Any:
            if kwargs and not others.isdisjoint(kwargs):
                kwargs = _renamed(function.__qualname__, kwargs, names, former)
            return function(*args, **kwargs)

        return cast("F", accepting)

    return decorate


def _renamed(
    function: str, kwargs: dict[str, Any], names: Mapping[str, str], former: Mapping[str, str]
) -> dict[str, Any]:
    """Keyword arguments by their names here.

    Raises:
        TypeError: one is given twice.
    """
    renamed: dict[str, Any] = {}
    for given, value in kwargs.items():
        name = names.get(given, given)
        if name in renamed or (name != given and name in kwargs):
            raise TypeError(f"{function}() was given {name} twice: {given} is another name of it")
        if given in former:
            _warn(f"{given} is now named {name}", DeprecationWarning)
        renamed[name] = _in_seconds(value) if given.endswith("_ms") and name.endswith("_s") else value
    return renamed


def _in_seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None or milliseconds < 0 else milliseconds / 1000


def _rename_fields(owner: type, names: Mapping[str, str]) -> None:
    """Let attributes be read and set by their other names."""
    for other, name in names.items():
        if name in {field.name for field in dataclasses.fields(owner)}:
            setattr(owner, other, property(operator.attrgetter(name), functools.partial(_write, name)))


def _write(name: str, owner: object, value: Any) -> None:
    setattr(owner, name, value)


def warn_ignored(why: str = "it is accepted for other projects' programs", /, **given: bool) -> None:
    """Warn whoever called kourou of arguments that do nothing here: name → whether it was given."""
    for name, is_given in given.items():
        if is_given:
            _warn(f"the argument {name} is ignored: {why}", UserWarning)


def _warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside of kourou that the call came from."""
    warnings.warn(message, category, stacklevel=cpython.stack_level_outside("kourou"))
