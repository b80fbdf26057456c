"""Which attributes of an object, or of its class, are methods that others may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from kourou.courier.serving.batching import BatchedHandler

_NEVER_REMOTE = frozenset({"set_courier_server"})  # Launchpad's hook: called by the node, not by clients
_MADE_BY_GETATTR = object()


def remote_methods(owner: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """``(name, method)`` of every public callable of an object or of a class.

    Properties are not evaluated: they may be costly, or fail before the object is ready. What a class's own
    ``__dir__`` lists and its ``__getattr__`` makes is public, too: so do wrappers hand on what they wrap.
    """
    for name in dir(owner):
        if not name.startswith("_") and name not in _NEVER_REMOTE:
            method = _callable_attribute(owner, name)
            if method is not None:
                yield name, method


def _callable_attribute(owner: object, name: str) -> Callable[..., Any] | None:
    """The attribute if it can be called; no code of its class runs for it, unless only ``__getattr__`` has it."""
    static = inspect.getattr_static(owner, name, _MADE_BY_GETATTR)
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
    except Exception as error:
        if static is _MADE_BY_GETATTR or isinstance(error, AttributeError):  # a property that is wrapped; an empty slot
            return None
        raise
    return value if callable(value) else None
