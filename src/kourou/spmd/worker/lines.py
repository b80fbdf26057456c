"""Lines of a worker that carry more than their text: log records, told in band so that their order is kept.

A worker prints to its pipes; its log records go the same way, as lines with a mark, a level and a logger's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import sys

_MARK = "\x1e"  # ASCII's record separator: no one prints it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """What a worker, or a host's agent, said."""

    hostname: str
    local_rank: int | None
    """None: the host's agent."""
    rank: int | None
    stream: str
    """"stdout", "stderr" or "log"."""
    level: int
    """As logging's: INFO for stdout, ERROR for stderr, its own for a record."""
    text: str
    """Without its end; a record's text may have several lines."""
    logger: str = ""
    """The worker's logger, for a record."""


class MarkHandler(logging.Handler):
    """In a worker: prints log records as marked lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as logging's own handlers do with arguments that do not fit the message
            self.handleError(record)
            return
        print(f"{_MARK}{json.dumps([record.levelno, record.name, text])}", file=sys.__stdout__, flush=True)


def parse(text: str, stream: str, *, hostname: str, rank: int | None, local_rank: int | None) -> Line:
    """A line as it came from a pipe."""
    level, logger = logging.ERROR if stream == "stderr" else logging.INFO, ""
    if text.startswith(_MARK):
        with contextlib.suppress(TypeError, ValueError):  # then it is a line like any other
            number, name, message = json.loads(text[len(_MARK) :])
            stream, level, logger, text = "log", int(number), str(name), str(message)
    return Line(
        hostname=hostname, rank=rank, local_rank=local_rank, stream=stream, level=level, text=text, logger=logger
    )
