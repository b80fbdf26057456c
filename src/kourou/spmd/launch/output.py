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
        handlers: take every line as a record.
        on_output: called with every line first.

    What one of them raises is told once. It is told no more lines then, and the run goes on.
    """

    def __init__(self, handlers: Sequence[logging.Handler], on_output: OnOutput | None) -> None:
        self._handlers = handlers
        self._deaf: set[logging.Handler] = set()  # they raised
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
                _is_well(handler.close)

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
        if self._on_output is not None and not _is_well(self._on_output, line):
            self._on_output = None
        record = make_record(line) if self._handlers else None
        for handler in self._handlers:
            takes = record is not None and record.levelno >= handler.level and handler not in self._deaf
            if takes and not _is_well(handler.handle, record):
                self._deaf.add(handler)


def _is_well(call: Callable[..., object], *args: object) -> bool:
    """Call what is the user's. False, and its traceback is printed, if it raises."""
    try:
        call(*args)
    except Exception:  # noqa: BLE001 - whatever it is, the ranks have nothing to do with it
        traceback.print_exc()
        return False
    return True
