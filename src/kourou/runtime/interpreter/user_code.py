"""Calling the user's code, which may be a coroutine."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine
from typing import Any

from kourou.runtime.interpreter.thread_interrupts import run_coroutine


def run_user_code(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call what is a node's work, and do what it returns where that is still to be done: a coroutine.

    It runs on an event loop of its own. When a stop interrupts the node, it is cancelled.

    Raises:
        TypeError: it returned a generator, none of whose code has run.
    """
    result = function(*args, **kwargs)
    if isinstance(result, Coroutine):
        run_coroutine(result)
    elif isinstance(result, (types.GeneratorType, types.AsyncGeneratorType)):
        raise TypeError(f"{result.__qualname__} is a generator function, so calling it has run none of its code")
