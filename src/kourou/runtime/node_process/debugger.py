"""A debugger in a node: debugpy, which editors know how to attach to. It listens on this host's loopback interface."""

from __future__ import annotations

import functools
import sys
import threading
import time
from types import FrameType
from typing import Any

from kourou import cpython, errors
from kourou.runtime.context.context import current_node
from kourou.runtime.model.reports import DEBUGGER
from kourou.waits import Blocked, waits_in


@functools.cache
def listen() -> int:
    """Let debuggers attach to this process, from now on; the port.

    Raises:
        MissingExtra: debugpy is not installed where this process runs.
    """
    _, port = _debugpy().listen(("127.0.0.1", 0))
    return int(port)


@waits_in(lambda here: Blocked(on=DEBUGGER, what="breakpoint()", since=here["since"], ends="one attaches"))
def wait_for_debugger(*_: Any, **__: Any) -> None:
    """Wait until a debugger has attached to this node, and stop there at the caller's next line.

    With the environment variable ``PYTHONBREAKPOINT=kourou.wait_for_debugger`` it is what ``breakpoint()`` does. The
    node's log says how to attach.

    Raises:
        MissingExtra: debugpy is not installed.
    """
    since = time.monotonic()  # noqa: F841 - told to whoever asks for whom this waits
    frame = _users_frame()
    port = listen()
    node = current_node()
    who, run = (node.name, node.run_id) if node is not None else ("this process", "RUN")
    print(  # noqa: T201 - for whoever reads the log
        f"kourou: {who} waits for a debugger, at {frame.f_code.co_filename}:{frame.f_lineno}: "
        f"kourou attach {run} {who}, or your editor's at 127.0.0.1:{port}",
        file=sys.stderr,
        flush=True,
    )
    _debugpy().wait_for_client()
    import pydevd  # type: ignore[import-not-found]  # noqa: PLC0415 - brought along by debugpy

    # Not debugpy.breakpoint(), which would stop in here.
    pydevd.settrace(suspend=True, trace_only_current_thread=True, patch_multiprocessing=False, stop_at_frame=frame)


def _users_frame() -> FrameType:
    """Whoever called, above all that is kourou's."""
    frame = cpython.frames_of_threads()[threading.get_ident()]
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("kourou."):
        frame = frame.f_back
    return frame


def _debugpy() -> Any:
    try:
        import debugpy  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415, T100 - an extra
    except ImportError:
        raise errors.MissingExtra("debugpy", "debug") from None
    return debugpy
