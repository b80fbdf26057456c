"""Stopping a program, as a node's code does it: asking for the end, waiting for it, handlers.

``lp.stop()`` and its like act on the program that the calling code belongs to, from any thread of a node, from
handlers, and from the launcher.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kourou.arguments import also_named
from kourou.runtime.context import context


def stop(reason: str = "lp.stop() was called") -> None:
    """End the program that this code belongs to, and only that one.

    Returns at once; works from any thread of a node, from its handlers, and from the launcher while it has one live
    run. Calling it again does no harm.

    Raises:
        NotInProgram: this code belongs to no program, or the launcher has several.
    """
    context.current_stop_state().request(reason)


@also_named(timeout_secs="timeout_s")
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
        launch_type: Launchpad's, where each has a function of its own; here one serves all, so nothing is lost.
    """
    del launch_type
    return _stop_program


def _stop_program(mark_as_completed: bool = False) -> None:  # noqa: FBT001, FBT002 - Launchpad's signature
    del mark_as_completed  # as Launchpad's own do
    stop("a program stopper was called")
