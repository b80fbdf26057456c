"""What becomes of a run's lines: the user's callback, then the handlers. Called from the run's one thread."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from kourou.nodes.ranks import Place
from kourou.spmd.hosts.places import Host
from kourou.spmd.launch.log_handlers import LogFolder, default_handlers, make_record
from kourou.spmd.worker.lines import Line, parse

HandlerFactory: TypeAlias = Callable[[], list[logging.Handler]] | Literal["auto"] | None
OnOutput: TypeAlias = Callable[[Line], None]


class Output:
    """The lines of one run.

    Args:
        on_output: called with every line first; what it raises is told once, and does not end the run.
    """

    def __init__(self, handlers: Sequence[logging.Handler], on_output: OnOutput | None) -> None:
        self._handlers = handlers
        self._on_output = on_output

    @classmethod
    @contextlib.contextmanager
    def opened(cls, factory: HandlerFactory, hosts: Sequence[Host], on_output: OnOutput | None) -> Iterator[Output]:
        """Make the handlers, and close them at the end."""
        if factory is None:
            handlers: list[logging.Handler] = []
        else:
            handlers = default_handlers(hosts) if factory == "auto" else factory()
        try:
            yield cls(handlers, on_output)
        finally:
            for handler in handlers:
                handler.close()

    def worker_line(self, place: Place, text: str, stream: str) -> None:
        """A worker said something."""
        self._tell(parse(text, stream, hostname=place.hostname, rank=place.rank, local_rank=place.local_rank))

    def agent_line(self, hostname: str, text: str, level: int = logging.INFO) -> None:
        """Something is to be said about a host, or about one of its workers."""
        self._tell(Line(hostname=hostname, local_rank=None, rank=None, stream="log", level=level, text=text))

    def log_file(self, place: Place) -> Path | None:
        """The file that a worker's lines are in; None without one."""
        for handler in self._handlers:
            if isinstance(handler, LogFolder):
                return handler.file_of(place.hostname, place.local_rank)
        return None

    def _tell(self, line: Line) -> None:
        if self._on_output is not None:
            try:
                self._on_output(line)
            except Exception:  # noqa: BLE001 - a callback of the user's
                self._on_output = None
                traceback.print_exc()
        record = make_record(line) if self._handlers else None
        for handler in self._handlers:
            if record is not None and record.levelno >= handler.level:
                handler.handle(record)
