"""Spans of calls and handlers as a Chrome trace, which Perfetto and chrome://tracing open.

KOUROU_TRACE=1 writes ``kourou-trace-PID.json`` into the working directory of each process, KOUROU_TRACE=DIR into DIR.
Times are of the system's clock, so the files of several processes of a host can be joined. Without the variable there
is no cost: nothing is wrapped.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

__all__ = ["VARIABLE", "enabled", "traced"]

VARIABLE = "KOUROU_TRACE"
F = TypeVar("F", bound=Callable[..., Any])


def enabled() -> bool:
    """Whether spans are to be written."""
    return os.environ.get(VARIABLE, "0") not in {"", "0"}


def traced(name: str, category: str, function: F) -> F:
    """The same function, writing a span for each call; the function itself when tracing is off.

    Args:
        name: of the span.
        category: ``call`` for the caller's side, ``handler`` for the server's.
        function: what takes the time.
    """
    if not enabled():
        return function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start_ns = time.time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            _file.write(name, category, start_ns, time.time_ns() - start_ns)

    return wrapper  # type: ignore[return-value]  # it has the signature of what it wraps


class _TraceFile:
    """The file of this process: a JSON array whose end is left open, which the format allows and a crash needs."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._lock = threading.Lock()
        self._named: set[int] = set()  # threads whose name is in the file

    def write(self, name: str, category: str, start_ns: int, duration_ns: int) -> None:
        """Add one span."""
        thread = threading.get_ident() & 0xFFFFFFFF  # Perfetto's thread numbers have 32 bits
        span: dict[str, Any] = {"ph": "X", "name": name, "cat": category, "pid": os.getpid(), "tid": thread}
        span |= {"ts": start_ns / 1e3, "dur": duration_ns / 1e3}  # microseconds
        with self._lock:
            file = self._file or self._open()
            if thread not in self._named:
                self._named.add(thread)
                label = {"name": threading.current_thread().name}
                file.write(_line({"ph": "M", "name": "thread_name", "pid": os.getpid(), "tid": thread, "args": label}))
            file.write(_line(span))

    def _open(self) -> IO[str]:
        value = os.environ[VARIABLE]
        folder = Path() if value == "1" else Path(value)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"kourou-trace-{os.getpid()}.json").open("w", buffering=1, encoding="utf-8")
        self._file.write("[\n")
        return self._file


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event) + ",\n"


def _start_anew() -> None:
    global _file  # noqa: PLW0603 - one for each process
    _file = _TraceFile()


_file = _TraceFile()
os.register_at_fork(after_in_child=_start_anew)  # a child writes a file of its own
