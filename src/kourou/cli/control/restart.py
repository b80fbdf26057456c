"""``kourou restart``."""

from __future__ import annotations

import getpass
import time

from kourou import errors
from kourou.cli.terminal.formats import duration
from kourou.cli.terminal.output import print_json, print_text
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun, choose_running


def restart_nodes(found: FoundRun, word: str, *, timeout_s: float, as_json: bool) -> None:
    """End the nodes that a word means, have them started again, and wait until they are."""
    with RemoteRun(found) as remote:
        before = {node.name: node for node in remote.status().nodes}
        names = choose_running(before, word)
        asked_at = time.monotonic()
        remote.request_restarts(names, before, f"kourou restart, by {getpass.getuser()}")
        now = [
            _started_again(remote, before[name], max(0.0, asked_at + timeout_s - time.monotonic())) for name in names
        ]
    if as_json:
        print_json([node.to_dict() for node in now])
        return
    for node in now:
        took = duration(time.monotonic() - asked_at)
        print_text(
            f"{node.name} started again: attempt {node.attempt}, process {node.pid}, {took} after it was asked for"
        )


def _started_again(remote: RemoteRun, before: NodeRecord, timeout_s: float) -> NodeRecord:
    name = before.name
    record = remote.wait(name, lambda now: now.gone or (now.attempt > before.attempt and bool(now.pid)), timeout_s)
    if record is None:
        raise errors.DeadlineExceeded(
            f"{name} was asked to end, and has not been started again within {timeout_s:g} s: where it is tells "
            f"kourou debug {remote.found.run_id} {name}"
        )
    if record.gone:
        raise errors.NodeExited(f"{name} has ended: {record.exit.cause if record.exit else record.state}")
    return record
