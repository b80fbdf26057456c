"""What every launcher does, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kourou.runtime.model.process import Blobs
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.plan.plan import NodePlan


class LauncherEvents(Protocol):
    """Told by a launcher from threads of its own; each call must return quickly."""

    def on_placed(self, name: str, attempt: int, host: str) -> None:
        """The node is about to start, on this host; told where there are several."""

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """The node's process or thread exists."""

    def on_line(self, name: str, line: str, stream: str) -> None:
        """The node printed a line; ``stream`` is "stdout" or "stderr"."""

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        """The node's process or thread, and all that it started, is gone."""


class Launcher(Protocol):
    """Starts nodes and ends them; :class:`LauncherEvents` says what became of that."""

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        """There are these nodes as well, with these parts of payloads; from any thread."""

    def forget(self, names: set[str]) -> None:
        """These nodes are gone for good; from any thread, and again and again."""

    def start(self, name: str, attempt: int) -> None:
        """Start a node of the plan; returns at once."""

    def withdraw(self, name: str) -> None:
        """A node that was to be started never begins, and ends, if it has not begun yet."""

    def interrupt(self, name: str) -> None:
        """Raise StopRequested in the node's main thread."""

    def terminate(self, name: str) -> None:
        """Ask the node's process to end (SIGTERM to its session)."""

    def kill(self, name: str) -> None:
        """End the node's process and all that it started, now."""

    def close(self) -> None:
        """Kill what is left and give everything back. Idempotent."""
