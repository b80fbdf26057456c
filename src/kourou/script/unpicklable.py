"""Saying which part of a value cannot be pickled, in words that lead to the line in question."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kourou.errors import KourouError
from kourou.nested import parts_of
from kourou.shown import described, shown

_DEEPEST = 6  # levels that are searched for the one object that cannot be pickled
Why = Callable[[Any], "BaseException | None"]


def innermost(path: str, value: Any, why: Why, depth: int = 0) -> tuple[str, Any, BaseException] | None:
    """The innermost part of a value that cannot be pickled by itself: its path, itself, and the reason."""
    error = why(value)
    if error is None:
        return None
    if depth < _DEEPEST:
        for step, part in _steps(value):
            found = innermost(path + step, part, why, depth + 1)
            if found is not None:
                return found
    return path, value, error


def _steps(value: Any) -> Iterator[tuple[str, Any]]:
    """(path, part) of what a value consists of, as far as a reader of the script sees it."""
    if hasattr(type(value), "nested_children"):
        yield from value.nested_children()
    elif (parts := parts_of(value)) is not None:
        yield from zip(map(parts.form.step, parts.names), parts.values, strict=True)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, type):
        yield from _parts_of_class(value)
    elif pickles_its_attributes(type(value)):
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def pickles_its_attributes(kind: Any) -> bool:
    """Whether the values of a type say nothing of their own about how they are pickled."""
    return kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__


def _parts_of_class(cls: type) -> Iterator[tuple[str, Any]]:
    for name, part in vars(cls).items():
        bare = part.__func__ if isinstance(part, (classmethod, staticmethod)) else part
        if isinstance(bare, types.FunctionType):  # by itself it would pickle as a name
            yield from ((f".{name}{step}", inner) for step, inner in _parts_of_function(bare))
        elif not name.startswith("__"):
            yield f".{name}", bare


def describe_global(name: str, value: Any, asked_by: Mapping[str, str], error: Exception, why: Why) -> str:
    """In one line: which global of the script cannot travel, who needs it, where it is set, and what to do."""
    asker = asked_by.get(name, "")
    found = (innermost(step, part, why) for step, part in _steps(value))
    path, culprit, reason = next(filter(None, found), ("", value, error))
    what = f"the global {name!r}" if not isinstance(value, (type, types.FunctionType)) else f"{name}{path}"
    if path and what.startswith("the global"):
        what += f" ({name}{path})"
    users = _chain(asker, asked_by)
    told = f"{users} uses {what}{_place(name, path, value)}, which cannot be pickled: {described(reason)}"
    if isinstance(reason, KourouError):  # it says what to do
        return told
    return (
        f"{told} (it is {shown(culprit)}). Make it inside of the function that uses it, or in a module of its own, "
        "which the node imports; or launch with local_mt"
    )


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in cells:
        try:
            yield f" (its variable {name!r})", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    defaults = {**_positional_defaults(function), **(function.__kwdefaults__ or {})}
    yield from ((f" (the default of {name!r})", value) for name, value in defaults.items())
    yield from ((f".{name}", value) for name, value in vars(function).items())


def _positional_defaults(function: types.FunctionType) -> dict[str, Any]:
    values = function.__defaults__ or ()
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    return dict(zip(arguments[len(arguments) - len(values) :], values, strict=True))


def _chain(asker: str, asked_by: Mapping[str, str]) -> str:
    """``node/0 (train, helper)``: whose payload it was, and through which definitions."""
    through = []
    while asker in asked_by:
        through.append(asker)
        asker = asked_by[asker]
    return f"{asker} ({', '.join(reversed(through))})" if through else asker


def _place(name: str, path: str, value: Any) -> str:
    """`` (train.py:4)``: the last assignment to a global at the script's top, or to a class's attribute."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:
        return ""
    try:
        tree: ast.AST = ast.parse("".join(linecache.getlines(file)))
        line = _line_of(tree, name) or (inspect.getsourcelines(value)[1] if callable(value) else None)
        if isinstance(value, type) and path:
            body = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
            line = _line_of(body, path[1:].partition(" ")[0]) or line
    except (OSError, SyntaxError, TypeError, StopIteration):
        return ""
    return f" ({file.rpartition('/')[2]}:{line})" if line else ""


def _line_of(tree: ast.AST, name: str) -> int | None:
    line = None
    for statement in getattr(tree, "body", ()):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for target in ast.walk(statement):
            if isinstance(target, ast.Name) and target.id == name and isinstance(target.ctx, ast.Store):
                line = target.lineno
    return line
