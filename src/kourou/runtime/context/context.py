"""Where am I: the node that the running code belongs to, and the programs that this process can reach.

A node's own process has one node, so the answer is a global there. Under local_mt many nodes share a process; there it
is a context variable, set in the node's thread and around each handler, and inherited by the threads these start.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from kourou import courier, cpython, errors
from kourou.runtime.model.names import index_of, label_of
from kourou.runtime.model.records import NodeRecord, NodeState, Outcome
from kourou.runtime.model.resize import Resize
from kourou.runtime.stopping.state import StopState
from kourou.waits import Working, works_in

_CLOSES_BY_ITSELF_S = 1.0  # a connection to a node that ended, unless its host is lost; last answers come before


class ControlPlane(Protocol):
    """A node's (or the launcher's) view of its program's coordinator."""

    def update(self, name: str, **changes: Any) -> None:
        """Publish changes of a node's record: state, endpoint, serves_only."""

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None) -> NodeRecord | None:
        """Block until a node's record fulfils ``holds``; None when the time passed first."""

    def members(self, label: str) -> list[NodeRecord]:
        """The nodes of a group that have not ended for good and are not being removed, by their numbers."""
        ...

    def resize(self, resize: Resize) -> tuple[str, ...]:
        """Ask for nodes to come or go, and wait until that has begun; who they are."""
        ...

    def request_stop(self, reason: str) -> None:
        """Ask for the end of the program; idempotent, returns at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binding:
    """What a handle needs to become a client: the way to its program's coordinator, and the program's token."""

    run_id: str
    control: ControlPlane
    token: str = dataclasses.field(repr=False)
    tls: bytes | None = dataclasses.field(default=None, repr=False)
    """The certificate to trust on the way to other hosts; None: nodes speak no TLS."""
    metrics_dir: str = ""
    """The folder on this host that ``lp.log`` writes to."""
    clients: weakref.WeakSet[Any] = dataclasses.field(default_factory=weakref.WeakSet, repr=False, compare=False)
    """Courier clients made through it: their connections are closed when the run ends."""

    def disconnect(self) -> None:
        """Close the clients' connections; the clients themselves stay, to say how their nodes have ended."""
        for client in list(self.clients):
            courier.disconnect(client)

    def forget_if_gone(self, record: NodeRecord) -> None:
        """Where nodes are on several hosts, one that is lost may live on for a while, and its connections for ever.

        It gets no more calls, and they are ended.
        """
        if self.tls is None or not record.state.ended or record.endpoint is None:
            return
        endpoint = courier.Endpoint.from_json(record.endpoint)
        for client in list(self.clients):
            if courier.address(client) == record.name:
                courier.give_up(client, endpoint, _CLOSES_BY_ITSELF_S)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeContext:
    """What a running node knows of itself; a node type's ``run(context)`` receives it."""

    name: str
    """``label/index``, and ``label/index:place`` for a child of a colocation."""
    program: str
    run_id: str
    launch_type: str
    attempt: int
    """1 for the first start, one more after each restart."""
    incarnation: int = 1
    """1 for the first launcher of the run, one more whenever an engine put its job back into the queue."""
    checkpoints: str = dataclasses.field(default="", repr=False)
    """The folder of the run that :func:`kourou.checkpoint_dir` is in."""
    binding: Binding = dataclasses.field(repr=False)
    stop: StopState = dataclasses.field(repr=False)
    report_child: Callable[[str, Outcome], None] = dataclasses.field(repr=False)
    """Tells how a child has ended that this node runs in a thread of its own."""
    server_options: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """Keyword arguments for a :class:`kourou.courier.Server` of this node (token, folders, call context)."""

    @property
    def label(self) -> str:
        """The group of the node."""
        return label_of(self.name)

    @property
    def index(self) -> int:
        """The replica's number in its group."""
        return index_of(self.name)

    def scale(self, label: str, count: int) -> tuple[str, ...]:
        """As :meth:`kourou.Run.scale`, for the run that this node is of."""
        return self._resize(label=label, count=count)

    def remove(self, *nodes: Any) -> None:
        """As :meth:`kourou.Run.remove`: by ``label/index``, or handles."""
        self._resize(names=tuple(str(node if isinstance(node, str) else node.node_name) for node in nodes))

    def add_node(self, node: Any, label: str) -> Any:
        """As :meth:`kourou.Run.add_node`; in its arguments clients that this node has do as handles."""
        (node._name,) = self._resize(label=label, node=node)  # noqa: SLF001 - it was a copy that got it
        node._run_id = self.run_id  # noqa: SLF001 - likewise
        return node.create_handle()

    def _resize(self, **what: Any) -> tuple[str, ...]:
        return self.binding.control.resize(Resize(**what))

    def publish(self, **changes: Any) -> None:
        """Change this node's record in the directory.

        Raises:
            StopRequested: it says that it is READY, of a process whose program stops already.
        """
        if changes.get("state") is NodeState.READY:
            self.stop.begin()
        self.binding.control.update(self.name, **changes)


compiling: contextvars.ContextVar[bool] = contextvars.ContextVar("kourou_compiling", default=False)
"""True while payloads are pickled: handles in them name no run, so that compiling needs none."""

_current: contextvars.ContextVar[NodeContext | None] = contextvars.ContextVar("kourou_node", default=None)
_process_node: NodeContext | None = None
_bindings: dict[str, Binding] = {}
_live_stops: dict[str, StopState] = {}
_ended_stop: StopState | None = None  # of the run that ended last
_lock = cpython.renewed_in_children(threading.Lock())


def set_process_node(node: NodeContext) -> None:
    """Declare that this whole process is one node."""
    global _process_node  # noqa: PLW0603 - a process is one node for all of its life
    _process_node = node
    _bindings[node.run_id] = node.binding


def current_node_name() -> str:
    """The node that this code runs in; empty in the launcher."""
    node = current_node()
    return "" if node is None else node.name


def process_node_name() -> str:
    """The node that this whole process is; empty for the launcher."""
    return "" if _process_node is None else _process_node.name


def add_binding(binding: Binding) -> None:
    """Let handles of another run be dereferenced in this process, for the rest of its life."""
    _bindings[binding.run_id] = binding


def bindings() -> list[Binding]:
    """The runs whose handles can be dereferenced here."""
    with _lock:
        return list(_bindings.values())


@contextlib.contextmanager
def no_launch(why: str) -> Iterator[None]:
    """While entered, ``lp.launch`` raises :class:`PlanError`, which says why and what to do: modules are imported.

    One that launches as soon as it is imported would do so in each of its nodes, and in each of theirs, without end.
    """
    global _launch_refused  # noqa: PLW0603 - of this process
    _launch_refused = (
        f"{why}, and a module launches a program when it is imported: put that under if __name__ == '__main__'"
    )
    try:
        yield
    finally:
        _launch_refused = None


def check_launch() -> None:
    """Called first by ``lp.launch``.

    Raises:
        PlanError: modules are being imported, see :func:`no_launch`.
    """
    if _launch_refused is not None:
        raise errors.PlanError(_launch_refused)


_launch_refused: str | None = None


@contextlib.contextmanager
def enter_node(node: NodeContext) -> Iterator[None]:
    """Run the body as ``node``; used for node threads and for handlers under local_mt."""
    token = _current.set(node)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def live_run(binding: Binding, stop: StopState) -> Iterator[None]:
    """While the body runs, handles of this run can be dereferenced and ``lp.stop`` works in this process."""
    global _ended_stop  # noqa: PLW0603 - the latest one counts
    with _lock:
        _bindings[binding.run_id] = binding
        _live_stops[binding.run_id] = stop
    try:
        yield
    finally:
        with _lock:
            _bindings.pop(binding.run_id, None)
            _live_stops.pop(binding.run_id, None)
            _ended_stop = stop
        stop.release()  # a program that ended by itself has stopped, too
        binding.disconnect()


@contextlib.contextmanager
def inherit_in_threads() -> Iterator[None]:
    """While entered, a thread belongs to the node whose code started it.

    Threads do not inherit context variables, and without this ``lp.stop()`` in a thread that a node started could not
    know its program when two run in one process. ``threading.Thread.start`` is wrapped for that time.
    """
    global _inheriting  # noqa: PLW0603 - counts the runs that need the wrapper
    with _lock:
        _inheriting += 1
        if _inheriting == 1:
            cpython.set_thread_start(_start_as_node)
    try:
        yield
    finally:
        with _lock:
            _inheriting -= 1
            if _inheriting == 0:
                cpython.set_thread_start(_start)


def _start_as_node(thread: threading.Thread) -> None:
    node = _current.get()
    if node is not None:
        run = thread.run

        @works_in(lambda here: Working(who=here["node"].name))
        def run_as_node() -> None:
            _current.set(node)
            run()

        thread.run = run_as_node  # type: ignore[method-assign]
    _start(thread)


_start = threading.Thread.start
_inheriting = 0


def current_node() -> NodeContext | None:
    """The node that this code runs in; None in the launcher."""
    return _current.get() or _process_node


def get_context() -> NodeContext:
    """The node that this code runs in.

    Raises:
        NotInProgram: this code does not run in a node.
    """
    node = current_node()
    if node is None:
        raise errors.NotInProgram(
            "this code does not run inside a node of a program, so there is no context; in the launcher use the run"
        )
    return node


def current_stop_state() -> StopState:
    """The stop state of the program that this code belongs to: its node's, or the launcher's only live run.

    Between runs it is that of the run that ended last, which has stopped: a launcher's loop that polls sees its end.

    Raises:
        NotInProgram: there never was one, or the launcher has several live runs.
    """
    node = current_node()
    if node is not None:
        return node.stop
    with _lock:
        stops = list(_live_stops.values())
    if len(stops) == 1:
        return stops[0]
    if not stops and _ended_stop is not None:
        return _ended_stop
    if not stops:
        raise errors.NotInProgram(
            "no program is running here: lp.stop and its like work in nodes, and in a launcher while a program runs"
        )
    raise errors.NotInProgram(
        f"{len(stops)} programs are running in this process: use the stop() of the run that lp.launch returned"
    )


def binding_of(run_id: str | None, node_name: str) -> Binding:
    """The way to the coordinator of a run; None stands for the current node's.

    Raises:
        HandleNotResolved: that run is not reachable from this process.
    """
    if run_id is None:
        return get_context().binding
    binding = _bindings.get(run_id)
    if binding is None:
        raise errors.HandleNotResolved(
            f"the handle of {node_name} belongs to run {run_id}, which is not running in reach of this process"
        )
    return binding
