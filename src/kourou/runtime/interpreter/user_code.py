"""Calling the user's code, which may be a coroutine."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from kourou.runtime.interpreter.thread_interrupts import run_coroutine


def run_user_code(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call what is a node's work, and do what it returns where that is still to be done: a coroutine. What comes of it.

    It runs on an event loop of its own. When a stop interrupts the node, it is cancelled.

    Raises:
        TypeError: it returned a generator, none of whose code has run.
    """
    result = function(*args, **kwargs)
    if isinstance(result, Coroutine):
        return run_coroutine(result)
    if isinstance(result, (types.GeneratorType, types.AsyncGeneratorType)):
        raise TypeError(f"{result.__qualname__} is a generator function, so calling it has run none of its code")
    return result


def unrun(function: object, *, is_constructor: bool = False) -> tuple[str, ...]:
    """In words, if it is so: calling this runs none of its code, and nobody would do what it returns."""
    called = (function, getattr(type(function), "__call__", None))  # noqa: B004 - it is looked at, not asked for
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in called):
        remedy = "call it in a function that goes through what it yields"
        return (f"{name_of(function)} is a generator function, so calling it runs none of its code: {remedy}",)
    if is_constructor and any(map(inspect.iscoroutinefunction, called)):
        remedy = "await in a method, or in run()"
        return (f"{name_of(function)} is a coroutine function, so calling it constructs nothing: {remedy}",)
    return ()


def untaken(function: object, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[str, ...]:
    """In words, if it is so: this cannot be called with these arguments. One that does not say what it takes, can."""
    if not callable(function) or hasattr(function, "__signature__"):  # what is written there, nothing has to keep
        return ()
    if is_abstract := abstract(function):
        return is_abstract
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # a decorator may add arguments
    except (TypeError, ValueError):  # it is written in C
        return ()
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return (f"{name_of(function)} is called with other arguments than it takes: {error}",)
    return ()


def abstract(made: object) -> tuple[str, ...]:
    """In words, if it is so: this is a class of which Python makes no objects."""
    if not inspect.isabstract(made) or made.__new__ is not object.__new__:
        return ()
    lacks = ", ".join(sorted(vars(made)["__abstractmethods__"]))
    return (f"{name_of(made)} is an abstract class, without {lacks}: give a subclass that has all of it",)


def name_of(value: object) -> str:
    """What a function, a class or a partial of one is called, for :meth:`Node.describe`."""
    inner = getattr(value, "func", value)  # the function of a partial
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))
