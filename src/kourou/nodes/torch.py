"""Nodes that are a group of torch's ranks: one node of the program, as many processes, one process group."""

from __future__ import annotations

import contextlib
import inspect
import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

from kourou import courier, errors
from kourou.courier import Endpoint
from kourou.courier.core.endpoint import host_id
from kourou.nodes.colocation import MultiProcessingColocation
from kourou.nodes.courier import CourierHandle, CourierNode
from kourou.nodes.process_group import (
    Backend,
    assemble,
    bind,
    find_place,
    grouped,
    reach_store,
    serve_store,
    torch_is_there,
)
from kourou.nodes.python import PyNode, check_callable
from kourou.nodes.ranks import LOOPBACK_INTERFACE, Rendezvous, place_variables
from kourou.runtime.context.context import NodeContext
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.node import NoClientHandle, Node
from kourou.runtime.host_agent.addresses import interface_of
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.waiting.node_target import NodeTarget
from kourou.shown import shown

_TIMEOUT_S = 600.0  # as spmd's worker_timeout_s
_LOOPBACK = "127.0.0.1"
_THREADS = {"local_mt", "test_mt"}


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TorchNode(MultiProcessingColocation, Generic[T]):
    """A group of workers that run the same function, or serve objects of the same class, as ranks of a process group.

    Every worker is a process. They find RANK, WORLD_SIZE and the like in their environment, and the process group set
    up. They stand and fall together: when one fails for good the others are killed, and the group's ``on_failure`` says
    what follows; ``lp.Restart`` starts all of them again, with a new rendezvous.

    Under ``ssh`` the ranks are on one host, unless ``placement={label: {host: number, …}}`` says how many go where. The
    processes of the group then meet at rank 0's host; what torch's backends send between hosts is as torch sends it.

    With a function the node ends when it has returned everywhere. With a class every rank constructs an object, and
    runs or serves it as a CourierNode does. A handle's client then calls rank 0 (``client.step()``), or every rank, and
    returns the list of their answers (``client.all.step()``).

    Args:
        function_or_class: what every rank calls; handles in its arguments arrive as clients.
        num_workers: how many ranks.
        args, kwargs: its arguments, in every rank the same.
        backend: of the process group; "auto" is nccl where every rank has a GPU, else gloo. None makes no group, but
            sets all variables.
        timeout_s: of the group's operations.
        courier_kwargs: arguments of the ranks' servers.

    Raises:
        GraphError: the number of workers is none.
        TypeError: neither a function nor a class was given.
        MissingExtra: torch is not installed.
    """

    def __init__(
        self,
        function_or_class: Callable[..., T],
        num_workers: int,
        *args: Any,
        backend: Backend | None = "auto",
        timeout_s: float = _TIMEOUT_S,
        courier_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 1:
            raise errors.GraphError(f"TorchNode: num_workers is a number of at least 1, got {shown(num_workers)}")
        if not torch_is_there():
            raise errors.MissingExtra("torch", "torch")
        check_callable(type(self).__name__, function_or_class)
        self._serves = inspect.isclass(function_or_class)
        self._ranks: tuple[_FunctionRank | _ObjectRank, ...] = tuple(
            _ObjectRank(function_or_class, *args, courier_kwargs=courier_kwargs, **kwargs)
            if self._serves
            else _FunctionRank(function_or_class, *args, **kwargs)
            for _ in range(num_workers)
        )
        for rank, node in enumerate(self._ranks):
            node.group = _Group(rank, num_workers, backend, timeout_s)
        super().__init__(self._ranks)

    def create_handle(self) -> Handle[TorchClient[T]]:
        """A promise of a :class:`TorchClient`, if it serves."""
        ranks = [node for node in self._ranks if isinstance(node, _ObjectRank)]
        if not ranks:
            return cast("Handle[Any]", NoClientHandle(self))
        return TorchHandle(self, [rank.create_handle() for rank in ranks])

    def describe(self) -> str:
        """``TorchNode(4 × Learner)``."""
        inner = self._ranks[0].describe().partition("(")[2][:-1]
        return f"{type(self).__name__}({len(self._ranks)} × {inner})"


class TorchClient(Generic[T_co]):
    """Calls the ranks of a TorchNode: ``client.method(...)`` rank 0, ``client.all.method(...)`` all of them.

    The answers of all are a list in the order of the ranks; the first rank that fails ends the call with its error, and
    nobody waits for the others any more.
    ``client.futures.method(...)`` is a future of rank 0's answer, ``client.ranks[i]`` the client of one rank.
    """

    def __init__(self, ranks: Sequence[T_co]) -> None:
        self.ranks = ranks

    def __dir__(self) -> list[str]:
        return [*dir(self.ranks[0]), "all", "ranks"]

    @property
    def all(self) -> _AllRanks:
        """The same methods, of every rank."""
        return _AllRanks(self.ranks)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python's own probes (copy, pickle, IPython …) must not become calls
            raise AttributeError(name)
        return getattr(self.ranks[0], name)

    def __repr__(self) -> str:
        return f"<client of {len(self.ranks)} ranks, the first is {courier.address(self.ranks[0])}>"


class _AllRanks:
    def __init__(self, ranks: Sequence[object]) -> None:
        self._ranks = ranks

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._ranks[0]) if name != "futures"]

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> list[Any]:
            # All at once: a method with a collective operation returns nowhere until it was called everywhere.
            answers = [courier.submit(getattr(rank, name), *args, **kwargs) for rank in self._ranks]
            arrived: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
            for answer in answers:
                answer.add_done_callback(arrived.put)
            try:
                for _ in answers:
                    arrived.get().result()  # where one rank fails, the others may wait for it in a collective
                return [answer.result() for answer in answers]
            finally:
                for answer in answers:
                    answer.cancel()

        return call


class TorchHandle(Handle[TorchClient[T_co]]):
    """A promise of a :class:`TorchClient`."""

    def __init__(self, node: TorchNode[Any], ranks: Sequence[CourierHandle[T_co]]) -> None:
        super().__init__(node)
        self._ranks = ranks

    def make_client(self, target: NodeTarget) -> TorchClient[T_co]:
        """Clients of all ranks."""
        del target  # it has no server of its own
        return TorchClient([rank.dereference() for rank in self._ranks])


class _Group:
    """What a rank knows of its group, and how it joins it."""

    def __init__(self, rank: int, world_size: int, backend: Backend | None, timeout_s: float) -> None:
        self._rank = rank
        self._world_size = world_size
        self._backend: Backend | None = backend
        self._timeout_s = timeout_s

    @contextlib.contextmanager
    def joined(self, context: NodeContext) -> Iterator[None]:
        """While entered, this process is the rank.

        Raises:
            LaunchError: nodes are threads, which cannot be ranks.
        """
        if context.launch_type in _THREADS:
            raise errors.LaunchError(
                f"{context.name} is a rank of a TorchNode, and torch knows one rank in a process: launch with local_mp"
            )
        host = str(context.server_options.get("host", _LOOPBACK))  # where others reach this node
        with contextlib.ExitStack() as stack:
            if self._rank == 0:
                listener = bind(host, self._world_size)
                rendezvous = Rendezvous(address=host, port=listener.getsockname()[1])
                # Not READY yet, so nobody but the other ranks makes anything of it.
                context.publish(endpoint=_endpoint_of(rendezvous))
                store = serve_store(rendezvous, self._world_size, listener.detach())
            else:
                rendezvous = _find(context)
                store = reach_store(rendezvous, self._world_size)
            place = find_place(store, self._rank, self._world_size, host)
            os.environ.update(place_variables(place, rendezvous))
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface_of(host) or LOOPBACK_INTERFACE)
            assemble(store, place)  # from here on, rank 0 may publish where it really serves
            if self._backend is not None:
                stack.enter_context(grouped(store, place, backend=self._backend, timeout_s=self._timeout_s))
            yield


def _endpoint_of(rendezvous: Rendezvous) -> str:
    address = f"{rendezvous.address}:{rendezvous.port}"
    return Endpoint(server_id="rendezvous", pid=os.getpid(), host_id=host_id(), grpc=address).to_json()


def _find(context: NodeContext) -> Rendezvous:
    """Wait for rank 0's rendezvous. Should rank 0 fail, this process is killed."""
    first = f"{context.name.rpartition(':')[0]}:0"

    def is_told(record: NodeRecord) -> bool:
        return not record.state.ended and record.endpoint is not None

    record = context.binding.control.wait(first, is_told, None)
    assert record is not None  # noqa: S101 - there was no time-out
    assert record.endpoint is not None  # noqa: S101 - that was waited for
    address, _, port = Endpoint.from_json(record.endpoint).grpc.rpartition(":")
    return Rendezvous(address=address, port=int(port))


class _Rank(Node):
    group: _Group

    @property
    def imports(self) -> tuple[str, ...]:
        """Its process group's."""
        return ("torch",)

    def run(self, context: NodeContext) -> None:
        with self.group.joined(context):
            super().run(context)  # type: ignore[safe-super] # the other base's


class _FunctionRank(_Rank, PyNode):
    """A function."""


class _ObjectRank(_Rank, CourierNode[Any]):
    """An object whose methods can be called."""
