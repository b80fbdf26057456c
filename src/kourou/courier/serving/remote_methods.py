"""Which attributes of an object, or of its class, are methods that others may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from kourou.courier.serving.batching import BatchedHandler

_NEVER_REMOTE = frozenset({"set_courier_server"})  # Launchpad's hook: called by the node, not by clients


def remote_methods(owner: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """``(name, method)`` of every public callable of an object or of a class.

    Properties are not evaluated: they may be costly, or fail before the object is ready.
    """
    for name in dir(owner):
        if not name.startswith("_") and name not in _NEVER_REMOTE:
            method = _callable_attribute(owner, name)
            if method is not None:
                yield name, method


def _callable_attribute(owner: object, name: str) -> Callable[..., Any] | None:
    """The attribute if it can be called, found without running any code of the object's class."""
    try:
        static = inspect.getattr_static(owner, name)
    except AttributeError:  # dir() lists it, but only __getattr__ makes it
        return None
    runs_code = hasattr(type(static), "__get__") and not (
        inspect.isroutine(static)
        or inspect.ismemberdescriptor(static)
        or isinstance(static, staticmethod | classmethod)
        or hasattr(static, "__partialmethod__")
        or isinstance(static, BatchedHandler)
        or type(static).__name__ in {"partialmethod", "singledispatchmethod"}
    )
    if runs_code:
        return None
    try:
        value = getattr(owner, name)
    except AttributeError:  # a slot that was never filled
        return None
    return value if callable(value) else None
