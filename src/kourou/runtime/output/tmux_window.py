"""What runs in a window of a run's tmux session: shows a node's log as it grows, and in the end how the node ended.

There is one for each node, so it imports little and sleeps most of the time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kourou.runtime.files.event_follower import EventFollower
from kourou.runtime.files.growing_file import LINES_MISSING, GrowingFile
from kourou.runtime.files.run_folder import node_log
from kourou.runtime.model.process_identity import process_start

_POLL_S = 0.1
_RUN_INFO_FILE = "run.json"  # kourou.runtime.files.run_info would import half of kourou
_RED, _GREEN, _YELLOW, _FAINT, _PLAIN = "\x1b[1;31m", "\x1b[32m", "\x1b[33m", "\x1b[90m", "\x1b[0m"
_SIGNALLED = 128  # as shells number an exit by a signal


def main(folder: str, node: str) -> None:
    """Follow a node until it has ended for good, then exit as it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a window must not take the node's last words away
    _tmux("set-option", "-w", "remain-on-exit", "on")
    _tmux("rename-window", f"● {_quoted(node)}")
    # The first line of the screen is the one that tmux lets go when it writes that the pane is dead.
    _show(f"{_FAINT}── {node} · {node_log(Path(folder), node)} ──{_PLAIN}\n")
    follower = NodeFollower(Path(folder), node)
    while not follower.ended:
        time.sleep(_POLL_S)
        follower.step()
    _tmux("rename-window", f"{'✓' if follower.code == 0 else '✗'} {_quoted(node)}")
    sys.exit(follower.code)


class NodeFollower:
    """Copies what is new of a node's log to standard output, and tells of its ends."""

    def __init__(self, folder: Path, node: str) -> None:
        self._node = node
        self._log = GrowingFile(node_log(folder, node))
        self._events = EventFollower(folder)
        info = json.loads((folder / _RUN_INFO_FILE).read_text(encoding="utf-8"))
        self._launcher = info["pid"], info["pid_start"]
        self.ended = False
        self.code = 0
        """What a shell would say of the node's end."""

    def step(self) -> None:
        """Show what happened since the last step."""
        alive = process_start(self._launcher[0]) == self._launcher[1]
        events = self._new_events()
        while events and events[0]["event"] == "restart":  # what it printed since is not shown yet
            self._tell(events.pop(0))
        self._copy()  # after the events: the last lines are in the log before the end is in the events
        for event in events:
            self._tell(event)
        if not alive and not self.ended:
            _show(f"{_RED}── the launcher died, and {self._node} with it ──{_PLAIN}\n")
            self.ended, self.code = True, _SIGNALLED + signal.SIGKILL

    def _tell(self, event: dict[str, Any]) -> None:
        if event["event"] == "exit":
            self._tell_end(event)
        elif event["event"] == "restart":
            _show(f"{_YELLOW}── {self._node} starts again, attempt {event['attempt']} ──{_PLAIN}\n")
        elif event["state"] in {"FINISHED", "FAILED", "KILLED"} and not event["will_restart"]:
            self.ended = True

    def _copy(self) -> None:
        while lines := self._log.read_lines():
            if self._log.take_gap():
                _show(f"{_YELLOW}── {LINES_MISSING} ──{_PLAIN}\n")
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()

    def _new_events(self) -> list[dict[str, Any]]:
        keys = {"node": "name", "exit": "node", "restart": "node"}
        return [event for event in self._events.read() if event.get(keys.get(event["event"], "")) == self._node]

    def _tell_end(self, record: dict[str, Any]) -> None:
        number = getattr(signal, record["signal"] or "", 0)
        self.code = record["code"] or (_SIGNALLED + number if record["signal"] else 0)
        colour = _GREEN if record["state"] == "FINISHED" else _RED
        facts = f"pid {record['pid']}, attempt {record['attempt']}, after {record['uptime_s']:.1f} s"
        _show(f"{colour}── {self._node} {record['cause']} ({facts}) ──{_PLAIN}\n")


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _tmux(command: str, *arguments: str) -> None:
    """A command about the window that this process runs in; outside of tmux there is none."""
    pane = os.environ.get("TMUX_PANE")
    if pane:
        options = [argument for argument in arguments if argument.startswith("-")]
        words = [argument for argument in arguments if not argument.startswith("-")]
        call = ["tmux", command, *options, "-t", pane, *words]
        subprocess.run(call, check=False, capture_output=True)


def _quoted(node: str) -> str:
    return node.replace("#", "##")
