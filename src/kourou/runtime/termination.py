"""Stopping a program, as a node's code sees it: an event, handlers, and asking for the end.

``lp.stop()`` and its like act on the program that the calling code belongs to, from any thread of a node, from
handlers, and from the launcher.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kourou import errors
from kourou.runtime import context, patient_stream
from kourou.runtime.life import work
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.runtime.records import NodeRecord

__all__ = [
    "INTERRUPTED",
    "PATIENCE_S",
    "StopState",
    "StopTimeline",
    "make_program_stopper",
    "name_the_slow",
    "register_stop_handler",
    "stop",
    "stop_event",
    "unregister_stop_handler",
    "wait_for_stop",
]

_log = logging.getLogger("kourou")

INTERRUPTED = "interrupted by the user"
"""The reason of a stop that a signal brought about."""
PATIENCE_S = 1.0
"""After so many seconds whoever pressed Ctrl-C is told what the end waits for."""
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTimeline:
    """How long a stopping program waits before it insists; seconds, each counted from the step before.

    The defaults add up to the ten seconds that Launchpad gave. 0 skips a step's waiting.
    """

    ask_s: float = 5.0
    """From the broadcast of stop until nodes that still run get StopRequested raised in their main thread."""
    interrupt_s: float = 3.0
    """From that exception until SIGTERM goes to the node's session."""
    terminate_s: float = 2.0
    """From SIGTERM until SIGKILL goes to the node's session."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise errors.GraphError(f"StopTimeline.{field.name} is a number of seconds >= 0, got {shown(value)}")

    @property
    def total_s(self) -> float:
        """Seconds from the broadcast of stop until SIGKILL."""
        return self.ask_s + self.interrupt_s + self.terminate_s


def name_the_slow(nodes: Iterable[NodeRecord], reason: str, timeline: StopTimeline) -> None:
    """Say which nodes still run, PATIENCE_S after a stop that a signal brought about.

    Nodes that only serve are named only when all others have ended: until then it is not they who are slow.
    """
    running = list(nodes)
    slow = sorted(node.name for node in running if not node.serves_only) or sorted(node.name for node in running)
    left_s = timeline.total_s - PATIENCE_S
    if reason != INTERRUPTED or not slow or left_s <= 0:
        return
    named = ", ".join(slow[:_MOST_NAMED]) + (f" and {len(slow) - _MOST_NAMED} more" if slow[_MOST_NAMED:] else "")
    patient_stream.warn("kourou: waiting up to %.0f s for %s to end; Ctrl-C again kills at once", left_s, named)


class StopState:
    """Whether the program stops, for one node (or for the launcher): an event and the handlers that wait for it."""

    def __init__(self, request: Callable[[str], None]) -> None:
        self.event = threading.Event()
        """Set once the program stops; nodes poll it."""
        self.released = threading.Event()
        """Set once nobody needs a node that only serves any more; it follows ``event``."""
        self._request = request
        self._handlers: list[Callable[..., Any]] = []
        self._branches: list[StopState] = []
        self._lock = threading.Lock()

    def request(self, reason: str) -> None:
        """Ask for the end of the program; idempotent."""
        self._request(reason)

    def set(self) -> None:
        """The program stops: wake who waits, call the handlers (in a thread of their own, so none delays the rest)."""
        with self._lock:
            if self.event.is_set():
                return
            self.event.set()
            handlers, self._handlers = self._handlers, []
            branches = list(self._branches)
        for branch in branches:
            branch.set()
        if handlers:
            threading.Thread(target=_call_handlers, args=(handlers,), name="kourou-stop", daemon=True).start()

    def release(self) -> None:
        """Let nodes that only serve end as well."""
        self.set()
        with self._lock:
            self.released.set()
            branches = list(self._branches)
        for branch in branches:
            branch.release()

    def branch(self) -> StopState:
        """The state of a part of this node: it follows this one, and can be set and released by itself as well."""
        branch = StopState(self._request)
        with self._lock:
            self._branches.append(branch)
            stopping, released = self.event.is_set(), self.released.is_set()
        if stopping:
            branch.set()
        if released:
            branch.release()
        return branch

    def register(self, handler: Callable[..., Any]) -> None:
        """Call ``handler()`` once when the program stops; at once if it already does."""
        with self._lock:
            if not self.event.is_set():
                if handler not in self._handlers:
                    self._handlers.append(handler)
                return
        _call_handlers([handler])

    def unregister(self, handler: Callable[..., Any]) -> None:
        """Forget a handler; unknown ones are ignored."""
        with self._lock:
            if handler in self._handlers:
                self._handlers.remove(handler)


def _call_handlers(handlers: list[Callable[..., Any]]) -> None:
    for handler in handlers:
        try:
            work(handler)
        except Exception:  # noqa: BLE001 - the others are called all the same
            _log.exception("the stop handler %s raised", shown(handler))


def stop(reason: str = "lp.stop() was called") -> None:
    """End the program that this code belongs to, and only that one.

    Returns at once; works from any thread of a node, from its handlers, and from the launcher while it has one live
    run. Calling it again does no harm.

    Raises:
        NotInProgram: this code belongs to no program, or the launcher has several.
    """
    context.current_stop_state().request(reason)


def wait_for_stop(timeout_s: float | None = None) -> bool:
    """Wait until the program stops; True if it does, False if ``timeout_s`` seconds (None: no limit) passed first.

    ``wait_for_stop(0)`` asks without waiting.
    """
    return context.current_stop_state().event.wait(timeout_s)


def stop_event() -> threading.Event:
    """The event that is set once the program stops."""
    return context.current_stop_state().event


def register_stop_handler(handler: Callable[[], Any]) -> None:
    """Call ``handler()`` once when the program stops; at once if it already does. Signal handlers are left alone."""
    context.current_stop_state().register(handler)


def unregister_stop_handler(handler: Callable[[], Any]) -> None:
    """Forget a handler that :func:`register_stop_handler` was given."""
    context.current_stop_state().unregister(handler)


def make_program_stopper(launch_type: object = None) -> Callable[..., None]:
    """A picklable function that stops the program in which it is called.

    Args:
        launch_type: accepted for Launchpad's sake; the same function serves all of them.
    """
    del launch_type
    return _stop_program


def _stop_program(mark_as_completed: bool = False) -> None:  # noqa: FBT001, FBT002 - Launchpad's signature
    del mark_as_completed
    stop("a program stopper was called")
