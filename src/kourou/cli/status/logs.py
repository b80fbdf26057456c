"""``kourou logs``."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable

from kourou.cli.terminal.output import print_json, print_text, tell
from kourou.runtime.files.log_file import LogFile, LogLine
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import choose_nodes
from kourou.runtime.output.node_logs import MERGED_LOG, Terminal

__all__ = ["show_logs"]

_POLL_S = 0.1
_DEFAULT_TAIL_LINES = 20  # earlier lines that --follow shows first, where --lines does not say how many


def show_logs(
    found: FoundRun, node: str | None, *, follow: bool, lines: int | None, times: bool, as_json: bool
) -> None:
    """Print what nodes printed: so far, or until the run ends."""
    wanted = set(choose_nodes([n.name for n in found.status().nodes], node)) if node else None
    log = LogFile(found.path / MERGED_LOG, lambda line: wanted is None or line.node in wanted)
    if lines is None and follow:
        lines = _DEFAULT_TAIL_LINES
    if lines is not None:
        log.skip_to_last(lines)
    printer = _Printer(named=wanted is None or len(wanted) > 1, times=times, as_json=as_json)
    while True:
        live = follow and found.state.live  # asked before the reading, so that nothing written before the end is missed
        printer.print(log.read())
        if not live:
            break
        time.sleep(_POLL_S)
    if not printer.printed and lines != 0:
        tell(f"nothing was printed by {node or 'the nodes'} of run {found.run_id}")


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
            elif self._named:
                print_text(f"{self._terminal.prefix(line.node)} {text}")
            else:
                print_text(text)
