"""What nodes print: whole lines, to one file for each node and, prefixed with its name, to the terminal."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from kourou import cpython
from kourou.runtime.context import context
from kourou.runtime.files.log_writer import LogWriter
from kourou.runtime.files.nonblocking_stream import NonBlockingStream
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.output.line_splitter import LineSplitter

MERGED_LOG = "output.log"
"""In a run's folder: what all nodes printed, in order; lines of ``time``, node and text with tabs between them."""

_COLOURS = (36, 33, 32, 34, 35)  # cyan, yellow, green, blue, magenta: readable on dark and on light


class Terminal:
    """Prints nodes' lines with their names in front; in colour on a terminal, unless NO_COLOR is set.

    Args:
        stream: where to; lines are lost, not raised, once it is closed.
        enabled: False prints nothing.
    """

    def __init__(self, stream: IO[str] | NonBlockingStream | None, *, enabled: bool = True) -> None:
        self._stream = stream if enabled else None
        self._colours: dict[str, int] = {}
        self._coloured = stream is not None and _is_terminal(stream) and not os.environ.get("NO_COLOR")
        self._lock = cpython.renewed_in_children(threading.RLock())  # a finaliser may print in the middle of a print

    def line(self, name: str, text: str) -> None:
        """Print one line of a node, at once and whole."""
        self.write(f"{self.prefix(name)} {text}\n")

    def prefix(self, name: str) -> str:
        """A node's name as it stands before its lines."""
        prefix = f"[{name}]"
        if self._coloured:
            label = name.rpartition("/")[0]
            colour = self._colours.setdefault(label, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        return prefix

    def write(self, text: str) -> None:
        """Print text as it is."""
        if self._stream is None:
            return
        with self._lock, contextlib.suppress(OSError, ValueError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()


class NodeLogs:
    """One log file for each node, one for all of them, and the terminal.

    Both are kept: the one tells what happened in which order, and whoever prints little is found in the other, however
    much the rest print.
    """

    def __init__(
        self, file_of: Callable[[str], Path], terminal: Terminal, *, merged: Path, rotation: Rotation | None = None
    ) -> None:
        self._file_of = file_of
        self._merged = str(merged)
        self._files = LogWriter(rotation or Rotation())
        self._nodes: dict[str, tuple[str, str]] = {}
        self._second, self._time, self._offset = 0, "", ""
        self._lock = cpython.renewed_in_children(threading.RLock())  # likewise
        self.terminal = terminal

    def line(self, name: str, text: str) -> None:
        """Record one line of a node. A full disk loses lines of the files, not the node."""
        with self._lock:
            now = self._now()
            path, quoted = self._nodes.get(name) or self._register(name)
            self._files.append(path, text)
            self._files.append(self._merged, f"{now}\t{quoted}\t{text}")
        self.terminal.line(name, text)
        self._files.tell_troubles()

    def _now(self) -> str:
        """ISO 8601 in local time; put together once a second, since a node may print many lines in one."""
        now = time.time()
        second = int(now)
        if second != self._second:
            local = datetime.datetime.fromtimestamp(second, tz=datetime.timezone.utc).astimezone().isoformat()
            self._second, self._time, self._offset = second, local[:19], local[19:]
        return f"{self._time}.{int((now - second) * 1000):03d}{self._offset}"

    def _register(self, name: str) -> tuple[str, str]:
        # A label may hold tabs and newlines, which have a meaning in the merged log.
        entry = self._nodes[name] = str(self._file_of(name)), urllib.parse.quote(name, safe="/ ,+=@~()[]{}")
        return entry

    def forget(self, names: Iterable[str]) -> None:
        """These nodes are gone for good: close their logs."""
        with self._lock:
            for path, _ in [self._nodes.pop(name) for name in names if name in self._nodes]:
                self._files.close_some(path)

    def close(self) -> None:
        """Close the files."""
        self._files.close()


class _ThreadStream:
    """Stands in for sys.stdout under local_mt: what this run's node threads print is logged, all else passes on."""

    def __init__(self, original: Any, run_id: str, logs: NodeLogs) -> None:
        self.original = original  # a text stream, or the one of a run that began earlier
        self._run_id = run_id
        self._logs = logs
        self._lines: dict[str, LineSplitter] = {}
        self._lock = cpython.renewed_in_children(threading.RLock())  # a signal handler may print within a print

    def write(self, text: str) -> int:
        node = context.current_node()
        if node is None or node.run_id != self._run_id:
            return int(self.original.write(text))
        with self._lock:
            self._splitter(node.name).feed(text.encode(errors="surrogatepass"))
        return len(text)

    def flush(self) -> None:
        node = context.current_node()
        if node is not None and sys.gettrace() is not None:  # a debugger's prompt ends in no newline: show it
            with self._lock:
                rest = self._splitter(node.name).take()
            self._logs.terminal.write(rest.decode(errors="replace"))
        with contextlib.suppress(ValueError):
            self.original.flush()

    def finish(self) -> None:
        """Log what no newline ended."""
        with self._lock:
            for splitter in self._lines.values():
                splitter.finish()

    def _splitter(self, name: str) -> LineSplitter:
        if name not in self._lines:
            self._lines[name] = LineSplitter(lambda text, _: self._logs.line(name, text))
        return self._lines[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class redirect_threads(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as contextlib.redirect_stdout
    """While entered, what node threads print goes to their logs."""

    def __init__(self, run_id: str, logs: NodeLogs) -> None:
        self._run_id = run_id
        self._logs = logs
        self._installed: list[tuple[str, _ThreadStream]] = []

    def __enter__(self) -> None:
        for name in ("stdout", "stderr"):
            original = getattr(sys, name)
            if original is not None:
                stream = _ThreadStream(original, self._run_id, self._logs)
                setattr(sys, name, stream)
                self._installed.append((name, stream))

    def __exit__(self, *exc_info: object) -> None:
        for name, stream in self._installed:
            current: Any = getattr(sys, name)
            if current is stream:
                setattr(sys, name, stream.original)
            while isinstance(current, _ThreadStream):  # another run's stream may stand above this one, and stays
                if current.original is stream:
                    current.original = stream.original
                current = current.original
            stream.finish()


def _is_terminal(stream: IO[str] | NonBlockingStream) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
