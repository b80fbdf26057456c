"""A control plane that a node's children use as well, however they were started: they ask their parent.

gRPC cannot be used in a fork, and a process that was spawned has no stream of its own from the coordinator. What they
want is little: where another node listens, and that the program should stop.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any

from kourou import errors, threads
from kourou.runtime.context import context
from kourou.runtime.context.context import ControlPlane
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.model.resize import Resize
from kourou.runtime.stopping.state import StopState
from kourou.script import children
from kourou.script.children import ChildCall

if TYPE_CHECKING:
    from multiprocessing.connection import Connection, Listener

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.25


class SharedControl(ControlPlane):
    """Implements :class:`kourou.runtime.context.context.ControlPlane`, here and in the children of this process.

    Args:
        control: what this process uses itself.
        server: answers those children.
    """

    def __init__(self, control: ControlPlane, server: ChildServer) -> None:
        self._control = control
        self._server = server

    def update(self, name: str, **changes: Any) -> None:
        self._reach().update(name, **changes)

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None) -> NodeRecord | None:
        return self._reach().wait(name, holds, timeout_s)

    def members(self, label: str) -> list[NodeRecord]:
        return self._reach().members(label)

    def request_stop(self, reason: str) -> None:
        self._reach().request_stop(reason)

    def resize(self, resize: Resize) -> tuple[str, ...]:
        """Ask for nodes to come or go; only a node itself does."""
        return self._reach().resize(resize)

    def __reduce__(self) -> tuple[Any, ...]:
        return _AskParent, self._server.open()

    def _reach(self) -> ControlPlane:
        return self._control if self._server.is_own else _AskParent(*self._server.open())


class _AskParent(ControlPlane):
    """A child's control plane. It can be pickled, so children of children have one."""

    def __init__(self, address: str, key: bytes) -> None:
        self._address, self._key = address, key

    def update(self, name: str, **changes: Any) -> None:
        """Refuse: a child is no node."""
        raise errors.NotInProgram(f"only the process of {name} itself can publish its {', '.join(changes)}")

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None) -> NodeRecord | None:
        """As its parent's, but by asking again and again."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            record: NodeRecord | None = self._ask("wait", name)
            if record is not None and holds(record):
                return record
            left_s = pause_s if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def members(self, label: str) -> list[NodeRecord]:
        records: list[NodeRecord] = self._ask("members", label)
        return records

    def request_stop(self, reason: str) -> None:
        self._ask("request_stop", reason)

    def resize(self, resize: Resize) -> tuple[str, ...]:
        """Refuse: a child is no node."""
        del resize
        raise errors.NotInProgram("only the process of a node itself can ask for nodes to come or go, not its children")

    def stopping(self) -> bool:
        """Whether the program stops, or has."""
        try:
            return bool(self._ask("stopping", ""))
        except errors.ServerUnavailable:
            return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _AskParent, (self._address, self._key)

    def _ask(self, what: str, argument: str) -> Any:
        from multiprocessing.connection import Client  # noqa: PLC0415 - nodes without children need none of it

        try:
            with Client(self._address, "AF_UNIX", authkey=self._key) as connection:
                connection.send((what, argument))
                answer = connection.recv()
        except (OSError, EOFError, AuthenticationError) as error:
            raise errors.ServerUnavailable(
                f"process {os.getpid()} asks its program by way of the node that started it, which has ended"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer


class ChildServer:
    """Answers the children of this process, one question a connection; opened when there is a child."""

    def __init__(self, control: ControlPlane, folder: str, stopping: threading.Event) -> None:
        self._control = control
        self._stopping = stopping
        self._owner = os.getpid()
        self._address, self._key = f"{folder}/p{secrets.token_hex(4)}", secrets.token_bytes(32)
        self._listener: Listener | None = None
        self._closed = False
        self._lock = threading.Lock()
        _all.add(self)
        _watch_forks()

    @property
    def is_own(self) -> bool:
        """Whether it belongs to this very process, and not to one that it was forked from."""
        return os.getpid() == self._owner

    def open(self) -> tuple[str, bytes]:
        """Listen from now on; the address, and the key that children have to show."""
        from multiprocessing.connection import Listener  # noqa: PLC0415 - nodes without children need none of it

        if self.is_own:
            with self._lock:
                if self._listener is None and not self._closed:
                    listener = Listener(self._address, "AF_UNIX", backlog=64)
                    thread = threading.Thread(target=self._serve, args=(listener,), name="kourou-children", daemon=True)
                    try:
                        threads.start(thread)
                    except BaseException:
                        listener.close()
                        raise
                    self._listener = listener
        return self._address, self._key

    def close(self) -> None:
        """Listen no more. Idempotent."""
        if not self.is_own:
            return  # another thread of the process that it was forked from may have held the lock
        with self._lock:
            self._closed = True
        if self._listener is not None:
            from multiprocessing.connection import Client  # noqa: PLC0415 - loaded, since there is a listener

            with contextlib.suppress(OSError):
                Client(self._address, "AF_UNIX").close()  # wakes the thread, which closes the rest

    def _serve(self, listener: Listener) -> None:
        while not self._closed:
            try:
                connection = listener.accept()
            except OSError:  # too many files are open: who asks waits in the queue
                time.sleep(_LONGEST_PAUSE_S)
                continue
            try:
                threads.start(
                    threading.Thread(target=self._answer, args=(connection,), name="kourou-child", daemon=True)
                )
            except RuntimeError:  # too many threads: who asks hears that nobody answers
                connection.close()
        with contextlib.suppress(OSError):  # its folder may be gone
            listener.close()

    def _answer(self, connection: Connection) -> None:
        from multiprocessing.connection import answer_challenge, deliver_challenge  # noqa: PLC0415 - loaded, as above

        with connection, contextlib.suppress(OSError, EOFError, AuthenticationError):
            deliver_challenge(connection, self._key)  # here, so that a child that does not go on holds up no other
            answer_challenge(connection, self._key)
            what, argument = connection.recv()
            try:
                connection.send(self._answer_to(what, argument))
            except errors.KourouError as error:
                connection.send(error)

    def _answer_to(self, what: str, argument: str) -> Any:
        if what == "wait":
            return self._control.wait(argument, lambda _: True, 0)
        if what == "members":
            return self._control.members(argument)
        if what == "stopping":
            return self._stopping.is_set()
        return self._control.request_stop(argument)


_FACTS = ("name", "program", "launch_type", "attempt", "incarnation", "checkpoints")  # of a node, for its children


def for_children() -> ChildCall:
    """What makes a child that is being started part of the program: the runs in reach, and the node that it is of."""
    node = context.current_node()
    of_node = {fact: getattr(node, fact) for fact in _FACTS} if node is not None else None
    bindings = context.bindings() if node is None else [node.binding]
    return _belong, ([(b.run_id, b.control, b.token, b.tls, b.metrics_dir) for b in bindings], of_node)


def _belong(bindings: list[tuple[str, _AskParent, str, bytes | None, str]], node: dict[str, Any] | None) -> None:
    for run_id, control, token, tls, metrics_dir in bindings:
        binding = context.Binding(run_id=run_id, control=control, token=token, tls=tls, metrics_dir=metrics_dir)
        context.add_binding(binding)
        if node is None:
            continue
        stop = StopState(control.request_stop)
        threads.start(threading.Thread(target=_follow, args=(control, stop), name="kourou-stop", daemon=True))
        context.set_process_node(
            context.NodeContext(
                **node,
                run_id=run_id,
                binding=binding,
                stop=stop,
                report_child=lambda *_: None,
            )
        )
    children.call_first("program", for_children)


def _follow(control: _AskParent, stop: StopState) -> None:
    while not control.stopping():
        time.sleep(_LONGEST_PAUSE_S)
    stop.release()


_all: weakref.WeakSet[ChildServer] = weakref.WeakSet()


def _before_fork() -> None:
    for server in list(_all):
        with contextlib.suppress(OSError, RuntimeError):  # no descriptor or thread is left for it
            server.open()


@functools.cache
def _watch_forks() -> None:
    """From the first one on: the zygote, whose forks are many, has none."""
    os.register_at_fork(before=_before_fork)
