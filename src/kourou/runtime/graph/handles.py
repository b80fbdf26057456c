"""Handles: promises of clients. A node's constructor gets the client where its creator wrote the handle."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, overload

from kourou import errors, nested
from kourou.runtime.context import context
from kourou.runtime.waiting.node_target import NodeTarget
from kourou.shown import described, shown

C_co = TypeVar("C_co", covariant=True)
T = TypeVar("T")


class Named(Protocol):
    """A node, as far as its handle is concerned."""

    @property
    def name(self) -> str | None:
        """``label/index``; None until it is in a program."""

    @property
    def run_id(self) -> str | None:
        """The latest run of its program; None until it was launched."""


class Handle(Generic[C_co]):
    """A promise of a client of one node.

    Written anywhere into another node's arguments it is an edge of the graph; when that node starts, it finds the
    client there. In the launcher, and wherever a handle arrives by other ways, call :meth:`dereference`.

    A node type whose clients are no courier clients defines a subclass with :meth:`make_client`. Attributes that a
    subclass adds travel with the handle, so they have to be picklable.
    """

    serves = True
    """False for nodes that answer no calls; such a handle in a node's arguments is a mistake that compile reports."""

    def __init__(self, node: Named) -> None:
        self._node: Named | None = node
        self._address: tuple[str | None, str] | None = None  # (run id, node name) of a handle that travelled

    @property
    def imports(self) -> tuple[str, ...]:
        """What :meth:`make_client` imports; see :attr:`Node.imports`."""
        return ()

    @property
    def node(self) -> Named | None:
        """The node it stands for; None in another process than the one that built the program."""
        return self._node

    @property
    def node_name(self) -> str | None:
        """``label/index`` of its node; None until the node is in a program."""
        if self._node is not None:
            return self._node.name
        return self._address[1] if self._address else None

    def dereference(self) -> C_co:
        """A new client of the node.

        It returns at once; the client's first call waits until the node is ready.

        Raises:
            HandleNotResolved: the node's program is not running in reach of this process.
        """
        run_id, name = self._locate()
        return self.make_client(NodeTarget(name=name, binding=context.binding_of(run_id, name)))

    def make_client(self, target: NodeTarget) -> C_co:
        """Make what the holder of this handle gets; called where it is used, and again for each holder.

        Return at once, and let the client's first use wait: ``target.address()`` blocks until the node is ready, and
        two nodes that know each other would wait for one another.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to reach {target.name}: define make_client")

    def _locate(self) -> tuple[str | None, str]:
        """(run id, node name); the run is None for a handle in a payload: it belongs to whichever run unpickles it."""
        if self._address is not None:
            return self._address
        node = self._node
        if node is None or node.name is None:
            raise errors.HandleNotResolved(
                f"this handle's node {shown(node)} was never added to a program: use program.add_node(node, label=...)"
            )
        if context.compiling.get():
            return None, node.name
        if node.run_id is None:
            raise errors.HandleNotResolved(
                f"the handle of {node.name} can be dereferenced only while its program runs: call lp.launch first; "
                "nodes get it as an argument, lp.PyNode(function, handle)"
            )
        return node.run_id, node.name

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in vars(self).items() if key not in {"_node", "_address"}}
        return _handle_from_address, (type(self), self._locate(), state)

    if not TYPE_CHECKING:  # to type checkers, a handle just lacks the attribute

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") or name in {"_node", "_address"}:
                raise AttributeError(name)
            owner = self.node_name or shown(self._node)
            raise errors.HandleNotResolved(
                f"this is a handle of node {owner}, which stands for a client and has no attribute {name!r}; "
                "pass the handle to a node's constructor, which gets the client, or call handle.dereference() "
                "(lp.maybe_dereference where it may be either)"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {shown(self.node_name or self._node)}>"


def _handle_from_address(cls: type[Handle[Any]], address: tuple[str | None, str], state: dict[str, Any]) -> Handle[Any]:
    handle = cls.__new__(cls)
    vars(handle).update(state, _node=None, _address=address)
    return handle


class Deferred(Generic[T]):
    """An object that is constructed where it is used: in the node's own process.

    Args:
        constructor: called in the node, once; its result stands where the Deferred stood.
        args, kwargs: its arguments; handles and other Deferred objects in them are resolved first.

    Raises:
        DeferredError: in the node, when the constructor raised; it says where the Deferred was written.
    """

    def __init__(self, constructor: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._constructor = constructor
        self._args = args
        self._kwargs = kwargs
        self._results: dict[tuple[str, str, int] | None, T] = {}  # one for each attempt of a node, as in processes
        # The last frame is this line; three above it are enough to find the place.
        self._defined_at = "".join(traceback.format_list(traceback.extract_stack(limit=4)[:-1]))

    def dereference(self) -> T:
        """Construct the object, or return the one that this node constructed before."""
        node = context.current_node()
        owner = (node.run_id, node.name, node.attempt) if node is not None else None
        if owner not in self._results:
            try:
                args, kwargs = maybe_dereference((self._args, self._kwargs))
                self._results[owner] = self._constructor(*args, **kwargs)
            except Exception as error:
                raise errors.DeferredError(
                    f"{described(error)} — while constructing the Deferred written at:\n{self._defined_at}"
                ) from error
        return self._results[owner]

    def nested_children(self) -> list[tuple[str, Any]]:
        """Its arguments are part of the structure, so handles in them are edges of the graph."""
        return [(".constructor", self._constructor), (".args", self._args), (".kwargs", self._kwargs)]

    def __repr__(self) -> str:
        return f"<Deferred {getattr(self._constructor, '__qualname__', self._constructor)}>"


@overload
def maybe_dereference(value: Handle[T]) -> T: ...
@overload
def maybe_dereference(value: Deferred[T]) -> T: ...
@overload
def maybe_dereference(value: Any) -> Any: ...
def maybe_dereference(value: Any) -> Any:
    """``value`` with every handle replaced by its client and every Deferred by its object, however deep they are."""
    return nested.map_leaves(_dereference_leaf, value)


def _dereference_leaf(leaf: Any) -> Any:
    return leaf.dereference() if isinstance(leaf, (Handle, Deferred)) else leaf
