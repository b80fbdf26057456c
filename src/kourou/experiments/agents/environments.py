"""Making a fit's environment from what a manager was given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kourou.experiments.failures import DescriptionError
from kourou.experiments.seeding import Seeder, safe_reseed
from kourou.extras import load_extra

EnvSource: TypeAlias = "tuple[Callable[..., Any], Mapping[str, Any] | None] | Callable[[], Any] | str | Any | None"
"""A constructor and its keyword arguments; a function without arguments; the name of a gymnasium environment; an
environment, of which each fit gets a copy; or None."""

_PAIR = 2


def make_env(source: EnvSource, seeder: Seeder) -> Any:
    """A new environment, with its spaces, seeded.

    Raises:
        DescriptionError: a tuple that is no constructor with arguments.
        MissingExtra: a name is given, and gymnasium is not installed.
    """
    env = _made(source)
    if env is not None:
        safe_reseed(env, seeder)
    return env


def _made(source: EnvSource) -> Any:
    if isinstance(source, tuple):
        if len(source) != _PAIR or not (callable(source[0]) or source[0] is None):
            raise DescriptionError(f"an environment is (constructor, arguments), got {source!r}")
        return source[0](**(source[1] or {})) if source[0] is not None else None
    if isinstance(source, str):
        return load_extra("gymnasium").make(source)
    # An environment may be callable too; what has reset() and step() is one, unless it is a class.
    if callable(source) and (isinstance(source, type) or not hasattr(source, "step")):
        return source()
    return copy.deepcopy(source)
