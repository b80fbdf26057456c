"""Waiting for the program's stop on an event loop."""

from __future__ import annotations

import asyncio
import contextlib

from kourou.runtime.context.context import current_stop_state


async def wait_for_stop(timeout_s: float | None = None) -> bool:
    """Wait until the program stops; True if it does, False if ``timeout_s`` seconds (None: no limit) passed first.

    As :func:`kourou.wait_for_stop`, but other tasks of the event loop go on meanwhile.
    """
    state = current_stop_state()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(stopped.set)

    with state.watched_by(wake):
        try:
            await asyncio.wait_for(stopped.wait(), timeout_s)
        except asyncio.TimeoutError:
            return state.event.is_set()
    return True
