"""Nodes whose objects are called from other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from kourou import courier
from kourou.nodes.python import Constructed
from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.handles import Handle
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.waiting.node_target import NodeTarget

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class CourierHandle(Handle[T_co]):
    """A promise of a :class:`kourou.courier.Client` of a CourierNode.

    To type checkers the client is what it calls: an object of the node's class ``T``.
    """

    def __init__(self, node: CourierNode[T_co], client_kwargs: Mapping[str, Any]) -> None:
        super().__init__(node)
        self._client_kwargs = dict(client_kwargs)

    def set_client_kwargs(self, **kwargs: Any) -> None:
        """Replace the arguments with which this handle makes its client (``timeout_s=5``, ``lane="grpc"``, …)."""
        self._client_kwargs = kwargs

    def make_client(self, target: NodeTarget) -> T_co:
        """A client of the node's server."""
        interface = self._node.object_class if isinstance(self._node, CourierNode) else None
        client = courier.Client(target, **{"interface": interface, **self._client_kwargs})
        target.binding.clients.add(client)
        return cast("T_co", client)


class CourierNode(Constructed, Generic[T]):
    """An object whose public methods other nodes can call.

    An object without ``run`` serves until the program stops. One with ``run`` serves while it runs. One with
    ``set_courier_server(server)`` is handed its server, not started, and starts it when it likes, there or in ``run``
    (Launchpad's semantics); until then the node is STARTING and its callers wait. Where nothing is going to run, the
    node starts the server itself.

    An object with ``save(folder)`` and ``load(folder)`` has its state kept: see :class:`kourou.Checkpoints`.

    Args:
        constructor: a class, or anything that returns the object.
        args, kwargs: its arguments; handles in them arrive as clients, Deferred objects as what they construct.
        courier_kwargs: arguments of its :class:`kourou.courier.Server`, such as ``thread_pool_size``.
        courier_client_kwargs: arguments of the clients made from its handles, such as ``timeout_s``.
    """

    def __init__(
        self,
        constructor: Callable[..., T],
        *args: Any,
        courier_kwargs: Mapping[str, Any] | None = None,
        courier_client_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(constructor, *args, **kwargs)
        self._courier_kwargs = dict(courier_kwargs or {})
        self._courier_client_kwargs = dict(courier_client_kwargs or {})

    @property
    def serves_only(self) -> bool:
        """True when the object will have no ``run``, as far as its class tells."""
        return not (self._should_run and hasattr(self._constructor, "run"))

    def mistakes(self) -> tuple[str, ...]:
        """Those of its constructor; and arguments that its server does not take."""
        found = super().mistakes()
        if self._courier_kwargs:  # servers take long to import
            try:
                courier.Server(**self._courier_kwargs)  # nothing begins before it is started
            except (TypeError, ValueError) as error:
                return *found, f"courier_kwargs: {error}"
        return found

    def create_handle(self) -> CourierHandle[T]:
        return CourierHandle(self, self._courier_client_kwargs)

    def run(self, context: NodeContext) -> None:
        """Construct the object, serve its methods, and run it if it has ``run``."""
        from kourou.runtime.node_process.checkpointing import keeping_state  # noqa: PLC0415 - not where it is launched
        from kourou.runtime.node_process.serving import node_server, serve  # noqa: PLC0415 - likewise

        instance = self._construct()
        server = node_server(context, **self._courier_kwargs)
        server.bind_object(instance)
        run = getattr(instance, "run", None) if self._should_run else None
        hand_over = getattr(instance, "set_courier_server", None)
        with keeping_state(context, self._checkpoint_policy, instance, server, runs=run is not None):
            if hand_over is not None:
                run_user_code(hand_over, server)
            with serve(context, server, start=hand_over is None or run is None):
                if run is not None:
                    if self.serves_only:  # a function made the object, so that nobody knew
                        context.publish(serves_only=False)
                    run_user_code(run)
                else:
                    context.publish(serves_only=True)
                    context.stop.released.wait()
