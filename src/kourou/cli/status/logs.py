"""``kourou logs``."""

from __future__ import annotations

import dataclasses
import datetime
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kourou import errors
from kourou.cli.terminal.formats import parse_duration
from kourou.cli.terminal.output import print_json, print_text, tell
from kourou.runtime.files.log_file import NOBODY, LogFile, LogLine
from kourou.runtime.files.rotation import generations
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_nodes
from kourou.runtime.output.node_logs import MERGED_LOG, Terminal

_POLL_S = 0.1
_DEFAULT_TAIL_LINES = 20  # earlier lines that --follow shows first, where --lines does not say how many


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogFilter:
    """Which lines are wanted."""

    nodes: Sequence[str] = ()
    """Nodes, labels or patterns of nodes; none: of all."""
    grep: str | None = None
    """A regular expression that is somewhere in the text."""
    since: str | None = None
    """Printed in the last ``10m``, or at or after a time such as ``2026-11-20T15:30``."""

    def predicate(self, names: Sequence[str]) -> Callable[[LogLine], bool]:
        """Whether a line is wanted.

        Raises:
            NotFound: a node that there is not.
            PlanError: no regular expression, or no time.
        """
        wanted = {name for word in self.nodes for name in choose_nodes(names, word)}
        pattern = _regex(self.grep) if self.grep is not None else None
        begin = _time(self.since) if self.since is not None else None

        def is_wanted(line: LogLine) -> bool:
            return (
                (not wanted or line.node in wanted)
                and (pattern is None or pattern.search(line.text) is not None)
                and (begin is None or datetime.datetime.fromisoformat(line.time) >= begin)
            )

        return is_wanted


def show_logs(
    found: FoundRun, chosen: LogFilter, *, follow: bool, lines: int | None, times: bool, as_json: bool
) -> None:
    """Print what nodes printed: so far, or until the run ends."""
    names = [node.name for node in found.status().nodes]
    path = found.path / MERGED_LOG
    log = LogFile(path, chosen.predicate(names))
    if lines is None and follow and chosen.since is None:
        lines = _DEFAULT_TAIL_LINES
    if lines is not None:
        log.skip_to_last(lines)
    of_one = len(chosen.nodes) == 1 and len(choose_nodes(names, chosen.nodes[0])) == 1
    printer = _Printer(named=not of_one, times=times, as_json=as_json)
    while True:
        live = follow and not found.state.over  # asked first, so that nothing written before the end is missed
        printer.print(log.read())
        if not live:
            break
        time.sleep(_POLL_S)
    if not printer.printed and lines != 0:
        narrowed = chosen.grep is not None or chosen.since is not None
        of_whom = ", ".join(chosen.nodes) or "the nodes"
        what = "nothing of that kind" if narrowed else "nothing"
        tell(f"{what} was printed by {of_whom} of run {found.run_id}{_as_far_as(path)}")


def _as_far_as(path: Path) -> str:
    """Where it may be nevertheless: the rest may have printed so much that the oldest backup is gone."""
    if len(generations(path)) <= 1:
        return ""
    return f" as far as {path}, which was rotated, goes back; nodes' own logs are in {path.parent / 'logs'}"


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise errors.PlanError(f"--grep {text!r} is no regular expression: {error}") from error


def _time(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError:
        return datetime.datetime.now().astimezone() - datetime.timedelta(seconds=parse_duration(text))


class _Printer:
    """Prints lines as the launcher's terminal does, or as JSON."""

    def __init__(self, *, named: bool, times: bool, as_json: bool) -> None:
        self._named = named
        self._times = times
        self._as_json = as_json
        self._terminal = Terminal(sys.stdout)
        self.printed = False

    def print(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            self.printed = True
            text = f"{line.time}  {line.text}" if self._times else line.text
            if self._as_json:
                print_json(dataclasses.asdict(line), indent=None)
            elif self._named or line.node == NOBODY:
                print_text(f"{self._terminal.prefix(line.node)} {text}")
            else:
                print_text(text)
