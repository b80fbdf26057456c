"""Nodes that run Python code and answer no calls."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.handles import maybe_dereference
from kourou.runtime.graph.node import NoClientHandle, Node
from kourou.runtime.interpreter.user_code import name_of, run_user_code, unrun, untaken
from kourou.shown import shown

_log = logging.getLogger("kourou")


class PyNode(Node):
    """A function that runs as a node.

    Args:
        function: called once, in the node; the node ends when it returns. One that is ``async`` runs on an event
            loop of its own, and is cancelled where others get StopRequested.
        args, kwargs: its arguments; handles in them arrive as clients, Deferred objects as what they construct.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        check_callable(type(self).__name__, function)
        self._function = function
        self._args = args
        self._kwargs = kwargs

    def run(self, context: NodeContext) -> None:
        """Call the function."""
        from kourou.runtime.node_process.serving import serve  # noqa: PLC0415 - not where it is launched

        args, kwargs = maybe_dereference((self._args, self._kwargs))
        function = maybe_dereference(self._function)
        with serve(context):
            run_user_code(function, *args, **kwargs)

    def create_handle(self) -> NoClientHandle:
        """It tells others of this node; there are no methods to call."""
        return NoClientHandle(self)

    def arguments(self) -> Mapping[str, Any]:
        """The function and its arguments."""
        return {"function": self._function, "args": self._args, "kwargs": self._kwargs}

    def mistakes(self) -> tuple[str, ...]:
        """A function that does not run when it is called, or not with these arguments."""
        return *unrun(self._function), *untaken(self._function, self._args, self._kwargs)

    def describe(self) -> str:
        return f"{type(self).__name__}({name_of(self._function)})"


class Constructed(Node):
    """A node around an object: constructs it in the node, then runs or serves it. The base of the class nodes."""

    def __init__(self, constructor: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        check_callable(type(self).__name__, constructor)
        self._constructor = constructor
        self._args = args
        self._kwargs = kwargs
        self._should_run = True

    @property
    def polls_while_starting(self) -> bool:
        """True for a function in a class's place, which may well do the node's whole work."""
        return self.object_class is None

    @property
    def object_class(self) -> type | None:
        """The class of the object; None where a function makes it, or a handle stands for it."""
        constructor = self._constructor
        while isinstance(constructor, functools.partial):
            constructor = constructor.func
        return constructor if isinstance(constructor, type) else None

    def configure(self, *args: Any, **kwargs: Any) -> None:
        """Replace the constructor's arguments; for nodes that need handles of nodes that are made after them."""
        self._args = args
        self._kwargs = kwargs

    def disable_run(self) -> None:
        """Construct the object but do not call its ``run``; tests drive it from outside then."""
        self._should_run = False

    def enable_run(self) -> None:
        """Undo :meth:`disable_run`."""
        self._should_run = True

    def arguments(self) -> Mapping[str, Any]:
        """The constructor and its arguments."""
        return {"constructor": self._constructor, "args": self._args, "kwargs": self._kwargs}

    def mistakes(self) -> tuple[str, ...]:
        """A constructor, or a ``run``, that does not run when it is called, or not with these arguments."""
        run = getattr(self._constructor, "run", None) if self._should_run else None
        taken = untaken(self._constructor, self._args, self._kwargs)
        return *unrun(self._constructor, is_constructor=True), *taken, *unrun(run)

    def describe(self) -> str:
        return f"{type(self).__name__}({name_of(self._constructor)})"

    def _construct(self) -> Any:
        args, kwargs = maybe_dereference((self._args, self._kwargs))
        return maybe_dereference(self._constructor)(*args, **kwargs)


class PyClassNode(Constructed):
    """An object whose ``run()``, which may be ``async``, is the node's life.

    One with ``save(folder)`` and ``load(folder)`` has its state kept: see :class:`kourou.Checkpoints`.

    Args:
        constructor: a class, or anything that returns the object.
        args, kwargs: its arguments; handles in them arrive as clients, Deferred objects as what they construct.
    """

    def create_handle(self) -> NoClientHandle:
        """It tells others of this node; there are no methods to call."""
        return NoClientHandle(self)

    def run(self, context: NodeContext) -> None:
        """Construct the object and call its ``run()``, if it has one."""
        from kourou.runtime.node_process.checkpointing import keeping_state  # noqa: PLC0415 - not where it is launched
        from kourou.runtime.node_process.serving import node_server, serve  # noqa: PLC0415 - likewise

        instance = self._construct()
        run = getattr(instance, "run", None)
        if not self._should_run or run is None:
            if run is None:
                _log.warning("%s has no run(): %s was constructed and ends", name_of(self._constructor), context.name)
            return
        server = node_server(context)
        with keeping_state(context, self._checkpoint_policy, instance, server, runs=True), serve(context, server):
            run_user_code(run)


def check_callable(kind: str, value: object) -> None:
    """Refuse what a node cannot call.

    Raises:
        TypeError: it is no function and no class.
    """
    if not callable(value):
        raise TypeError(f"{kind} takes a function or a class first, not what it returns; got {shown(value)}")
