"""Calling many nodes at once."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from kourou import courier, errors
from kourou.closing import ClosedAtExit
from kourou.runtime.context import context
from kourou.runtime.context.context import Binding
from kourou.runtime.graph.handles import Handle
from kourou.runtime.model.names import group_of
from kourou.runtime.waiting.node_target import NodeTarget
from kourou.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from kourou.courier import Client


def broadcast(targets: Iterable[object] | GroupHandle | Broadcast, *, timeout_s: float | None = None) -> Broadcast:
    """A group of nodes that is called as one.

    Example::

        actors = lp.broadcast(handles, timeout_s=10)
        actors.load(weights)                            # calls all at once; their results, in the order of the handles
        actors.first.sample()                           # the first result; the other calls are cancelled
        for index, episode in actors.stream.rollout():  # results as they come
            ...
        waiting = actors.futures.rollout()              # a future for each node, at once

    Inside a node, where handles arrive as clients, pass the list of clients; ``lp.Deferred(lp.broadcast, handles)`` in
    a node's arguments arrives as the group. Of handles it makes clients of its own, which the end of a ``with`` closes.

    Args:
        targets: handles, clients, or both; or ``program.handle_to_group(label)``: then each call reaches the nodes that
            the group has at the time, and one that is removed meanwhile is missing in the results.
        timeout_s: seconds from each call until nodes that have not answered count as failed (``DeadlineExceeded``);
            None: the clients' own time-outs.

    Raises:
        TypeError: something else was in ``targets``.
        HandleNotResolved: a handle's program is not running in reach of this process.
        BroadcastError: from calls; some nodes failed, and it has what the others answered.
    """
    if isinstance(targets, GroupHandle):
        targets = targets.dereference()
    members = targets._members if isinstance(targets, Broadcast) else Given(targets)  # noqa: SLF001 - it is ours
    return Broadcast(members, timeout_s=timeout_s)


class Broadcast:
    """What :func:`broadcast` returns. All attributes but ``gather``, ``first``, ``stream`` and ``futures`` are methods.

    A method of such a name is reached through ``gather``, as in ``group.gather.first()``.
    """

    def __init__(self, members: Given | Following, *, timeout_s: float | None = None) -> None:
        self._members = members
        self._timeout_s = timeout_s
        self.gather = Calls(self, _gather)
        """Results of all nodes, in order; BroadcastError if one of them failed. ``group.method()`` is short for it."""
        self.first = Calls(self, _first)
        """The first result that comes; BroadcastError if all failed. The other calls are cancelled."""
        self.stream = Calls(self, Stream)
        """``(index, result)`` as they come; BroadcastError at the end if some failed. Leaving it cancels the rest."""
        self.futures = Calls(self, lambda pending: list(pending.replies))
        """A future for each node, in order, at once; each has what its own node answers, or raises."""

    @property
    def _clients(self) -> list[Client]:
        clients = self._members.clients()
        if self._timeout_s is None:
            return clients
        return [courier.with_options(client, timeout_s=self._timeout_s) for client in clients]

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        method: Callable[..., list[Any]] = getattr(self.gather, _public(name))
        return method

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Call the remote objects themselves."""
        results: list[Any] = self.gather(*args, **kwargs)
        return results

    def __len__(self) -> int:
        return len(self._clients)

    def __dir__(self) -> list[str]:
        return [*dir(self.gather), "first", "futures", "gather", "stream"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._members.close()

    def __repr__(self) -> str:
        return f"<broadcast to {', '.join(map(courier.address, self._members.clients())) or 'nobody'}>"

    def _submit(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pending:
        replies: list[Future[Any]] = []
        clients = self._clients
        for client in clients:
            call = client.futures if method == "__call__" else getattr(client.futures, method)
            try:
                replies.append(call(*args, **kwargs))
            except errors.SerializationError:
                raise  # the arguments are to blame, and no node has got them
            except errors.RpcError as error:
                replies.append(Future())
                replies[-1].set_exception(error)
        names = tuple(map(courier.address, clients))
        return Pending(method, names, replies, forgets_removed=isinstance(self._members, Following))


class Given:
    """Members that somebody named, for good."""

    def __init__(self, targets: Iterable[object]) -> None:
        self._own: list[Client] = []
        self._clients = [self._client(target) for target in targets]

    def clients(self) -> list[Client]:
        """Those of all members."""
        return self._clients

    def close(self) -> None:
        """Close those that were made here."""
        for client in self._own:
            courier.close(client)

    def _client(self, target: object) -> Client:
        client = target.dereference() if isinstance(target, Handle) else target
        if isinstance(client, courier.Client):
            if client is not target:
                self._own.append(client)
            return client
        raise TypeError(f"broadcast takes handles and clients of CourierNodes, got {shown(target)}")


class Following:
    """The members that a group of a program has at the time."""

    def __init__(self, label: str, make_client: Callable[[NodeTarget], Any], binding: Binding) -> None:
        self._label = label
        self._make_client = make_client
        self._binding = binding
        self._made: dict[str, Client] = {}

    def clients(self) -> list[Client]:
        """Those of all members."""
        names = [record.name for record in self._binding.control.members(self._label)]
        for name in self._made.keys() - names:
            has_ended = self._binding.control.wait(name, lambda record: record.gone, 0) is not None
            if has_ended and (client := self._made.pop(name, None)) is not None:  # before that, it may answer
                courier.close(client)
        return [self._client(name) for name in names]

    def close(self) -> None:
        """Close them."""
        for client in self._made.values():
            courier.close(client)

    def _client(self, name: str) -> Client:
        client = self._made.get(name)
        if client is None:
            client = self._make_client(NodeTarget(name=name, binding=self._binding))
            if not isinstance(client, courier.Client):
                raise TypeError(f"only CourierNodes can be called as a group, and {name} is none")
            client = self._made.setdefault(name, client)  # another thread's may be there by now
        return client


class GroupHandle(Handle[Broadcast]):
    """A handle of a group: who gets it calls whichever nodes the group has at the time, as :func:`broadcast` does."""

    def __init__(self, label: str, member: Handle[Any]) -> None:
        self._label = label
        self._member = member  # any of them, by which the others are reached, too

    @property
    def node(self) -> Any:
        """One of its nodes."""
        return self._member.node

    @property
    def node_name(self) -> str:
        """``label/*``."""
        return group_of(self._label)

    @property
    def serves(self) -> bool:  # type: ignore[override]
        """Whether its nodes answer calls."""
        return self._member.serves

    def dereference(self) -> Broadcast:
        """The group, to be called."""
        run_id, name = self._member._locate()  # noqa: SLF001 - it is one, too
        return Broadcast(Following(self._label, self._member.make_client, context.binding_of(run_id, name)))

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupHandle, (self._label, self._member)


class Calls:
    """The methods of a group, with one way to take the results."""

    def __init__(self, group: Broadcast, take: Callable[[Pending], Any]) -> None:
        self._group = group
        self._take = take

    def __getattr__(self, name: str) -> Callable[..., Any]:
        _public(name)
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the remote objects themselves."""
        return self._call("__call__", args, kwargs)

    def __dir__(self) -> list[str]:
        clients = self._group._clients  # noqa: SLF001 - the other half of the same class
        return dir(clients[0].futures) if clients else []

    def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._take(self._group._submit(method, args, kwargs))  # noqa: SLF001 - the other half of the same class


class Pending:
    """One method called on every node, and what came of it so far."""

    def __init__(
        self, method: str, names: Sequence[str], replies: Sequence[Future[Any]], *, forgets_removed: bool
    ) -> None:
        self.method = method
        self._forgets_removed = forgets_removed
        self.names = tuple(names)
        self.replies = replies
        self.results: dict[int, Any] = {}
        self.failures: dict[int, Exception] = {}

    def take(self, index: int) -> bool:
        """Wait for one reply, and sort it in; whether it is a result."""
        try:
            self.results[index] = self.replies[index].result()
        except CancelledError:
            self.failures[index] = errors.CallCancelled(f"{self.method}: the call was cancelled")
        except Exception as error:  # noqa: BLE001 - whatever a node raised
            if not (self._forgets_removed and isinstance(error, errors.NodeRemoved)):
                self.failures[index] = error
        return index in self.results

    def cancel(self) -> None:
        """Give up what has not come."""
        for reply in self.replies:
            reply.cancel()

    def error(self) -> errors.BroadcastError:
        """The error that tells of all."""
        return errors.BroadcastError(self.method, self.names, self.results, self.failures)


def _gather(pending: Pending) -> list[Any]:
    try:
        for index in range(len(pending.replies)):
            pending.take(index)
    except BaseException:  # Ctrl-C or stop: nobody waits for the answers any more
        pending.cancel()
        raise
    if pending.failures:
        raise pending.error() from next(iter(pending.failures.values()))
    return [pending.results[index] for index in sorted(pending.results)]


def _first(pending: Pending) -> Any:
    with Stream(pending) as stream:
        for _, result in stream:
            return result
    raise pending.error()  # there was nobody to call


class Stream(ClosedAtExit, Iterator[tuple[int, Any]]):
    """``(index, result)`` of calls as they are answered."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._left = len(pending.replies)
        arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._arrived = arrived
        for index, reply in enumerate(pending.replies):
            reply.add_done_callback(lambda _, index=index: arrived.put(index))  # type: ignore[misc]

    def __next__(self) -> tuple[int, Any]:
        while self._left:
            try:
                index = self._arrived.get()
            except BaseException:  # Ctrl-C or stop: nobody waits for the answers any more
                self.close()
                raise
            self._left -= 1
            if self._pending.take(index):
                return index, self._pending.results[index]
        if self._pending.failures:
            error = self._pending.error()
            cause = next(iter(self._pending.failures.values()))
            self._pending.failures = {}  # told once; after that, this is an iterator at its end
            raise error from cause
        raise StopIteration

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_ending():
            self.close()

    def close(self) -> None:
        """Cancel the calls that were not answered yet."""
        self._left = 0
        self._pending.cancel()


def _public(name: str) -> str:
    if name.startswith("_"):  # Python's own probes (copy, pickle, IPython …) must not become calls
        raise AttributeError(f"no attribute {name!r}; private methods cannot be called remotely")
    return name
