"""The base class of every node type."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Any

from kourou import nested
from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.checkpoints import Checkpoints
from kourou.runtime.graph.failure_policies import OnFailure
from kourou.runtime.graph.handles import Handle
from kourou.runtime.waiting.node_target import NodeTarget


class Node(abc.ABC):
    """One vertex of a program's graph: what will run as one process, or as one thread.

    A node type of your own derives from this class and defines

    - :meth:`run`, which is the node's whole life, in its own process or thread;
    - :meth:`create_handle`, if others shall reach it: it returns a :class:`Handle` subclass of yours, whose
      ``make_client(target)`` makes what they get. For methods to be called as those of a CourierNode, derive from that;
    - :meth:`arguments`, if what the user passed is not simply its attributes.

    The object is pickled as it is and unpickled in the node's process, so what :meth:`run` needs are its attributes;
    handles in them become clients with ``lp.maybe_dereference``. Nothing else has to be called, not even
    ``super().__init__()``.

    Example::

        class WebNode(lp.Node):
            def __init__(self, pages):
                self._pages = pages

            def create_handle(self):
                return WebHandle(self)

            def run(self, context):
                pages = lp.maybe_dereference(self._pages)
                with WebServer(pages, port=0) as server:
                    # Others get to know the address that was really bound; any text will do.
                    context.publish(state=lp.NodeState.READY, endpoint=f"127.0.0.1:{server.port}")
                    context.stop.event.wait()  # the program stops

        class WebHandle(lp.Handle):
            def make_client(self, target):
                return WebClient(target)  # its first request asks target.address(timeout_s), which waits for the node

    It takes part in everything that the built-in types do: edges and mistakes in the plan, states, restarts, stopping,
    colocations. tests/nodes/test_custom_node.py has the whole of this one.
    """

    # Class attributes, so that a subclass need not call __init__.
    _name: str | None = None
    _run_id: str | None = None
    _checkpoint_policy: Checkpoints | None = None

    @property
    def name(self) -> str | None:
        """``label/index``; None until the node is in a program."""
        return self._name

    @property
    def run_id(self) -> str | None:
        """The latest run of its program; None until it was launched."""
        return self._run_id

    @property
    def serves_only(self) -> bool:
        """True for a node without work of its own: it answers calls until all others have ended."""
        return False

    @property
    def polls_while_starting(self) -> bool:
        """True if what runs before it is READY may look whether the program stops, and so is given the time for that.

        Others are interrupted at once then.
        """
        return any(child.polls_while_starting for child in self.children())

    @property
    def imports(self) -> tuple[str, ...]:
        """Libraries that :meth:`run` of this type imports first of all, beside those of the user's functions.

        Processes are forked with them where several need them (``PythonProcess.preload``).
        """
        return ()

    def children(self) -> tuple[Node, ...]:
        """The nodes of a colocation.

        They are not added to the program themselves. With their parent they get a name (``label/index:place``), and
        with it a record in the directory, so handles of them work as those of all other nodes.
        """
        return ()

    @property
    def children_policy(self) -> OnFailure | None:
        """Who runs the children: None means :meth:`run` does, in threads of its own.

        Otherwise the launcher starts each of them by itself, with this policy, and this node runs nothing: it is ready
        when they are, ends when they have ended, and fails, with all of them, when one failed for good.
        """
        return None

    def iterate_family(self) -> Iterator[Node]:
        """This node, its children, theirs, and so on."""
        yield self
        for child in self.children():
            yield from child.iterate_family()

    @abc.abstractmethod
    def run(self, context: NodeContext) -> None:
        """Live. Returning ends the node; raising fails it.

        ``context.publish(state=NodeState.READY, ...)`` tells the others that it is ready.
        """

    def create_handle(self) -> Handle[Any]:
        """A promise of a client of this node, to be passed to other nodes."""
        return NoClientHandle(self)

    def arguments(self) -> Mapping[str, Any]:
        """What the user passed, by name: handles in it are edges, and what cannot be pickled is named by it."""
        return {k: v for k, v in vars(self).items() if k not in {"_name", "_run_id", "_checkpoint_policy"}}

    @property
    def input_handles(self) -> tuple[Handle[Any], ...]:
        """The handles in this node's arguments: its edges, in order."""
        return tuple(handle for _, handle in self.iterate_handles())

    def iterate_handles(self) -> Iterator[tuple[str, Handle[Any]]]:
        """``(path, handle)`` of every handle in the arguments, for example ``("args[0]", <handle of learner/0>)``."""
        for key, value in self.arguments().items():
            for path, leaf in nested.iterate_leaves(value, key):
                if isinstance(leaf, Handle):
                    yield path, leaf

    def mistakes(self) -> tuple[str, ...]:
        """What is wrong with the node, in sentences without its name; found when the program is compiled."""
        return ()

    def describe(self) -> str:
        """The node in a word or two, for tables: its type and what it constructs."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.describe()}{f' {self._name}' if self._name else ''}>"


class NoClientHandle(Handle[object]):
    """The handle of a node that answers no calls."""

    serves = False

    def make_client(self, target: NodeTarget) -> object:
        """There is none."""
        raise NotImplementedError(f"{target.name} serves no methods, so its handle has no client: a CourierNode does")
