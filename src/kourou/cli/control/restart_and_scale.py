"""``kourou restart`` and ``kourou scale``."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence

import typer

from kourou import errors
from kourou.cli.terminal.formats import duration
from kourou.cli.terminal.output import print_json, print_text
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.resize import Resize
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_running
from kourou.runtime.monitoring.remote_run import RemoteRun


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


def scale_run(found: FoundRun, words: Sequence[str], *, timeout_s: float, as_json: bool) -> None:
    """Let groups have so many nodes, and wait until those that come are ready and those that go have ended."""
    wanted = [_parsed(word) for word in words]
    asked_at = time.monotonic()
    now: list[NodeRecord] = []
    with RemoteRun(found) as remote:
        for label, count in wanted:
            names = remote.resize(Resize(label=label, count=count), f"kourou scale, by {getpass.getuser()}")
            now += [_settled(remote, name, max(0.0, asked_at + timeout_s - time.monotonic())) for name in names]
            took = duration(time.monotonic() - asked_at)
            if not as_json:
                came, went = (
                    sum(bool(node.removed) is gone for node in now if node.name in names) for gone in (False, True)
                )
                what = f"{came} more" if came else f"{went} fewer" if went else "as before"
                print_text(f"{label} has {count} nodes: {what}, {took} after it was asked for")
    if as_json:
        print_json([node.to_dict() for node in now])


def _parsed(word: str) -> tuple[str, int]:
    label, _, count = word.rpartition("=")
    if not label or not count.isdecimal():
        raise typer.BadParameter(f"{word!r} is no label=number, such as actor=8")
    return label, int(count)


def _settled(remote: RemoteRun, name: str, timeout_s: float) -> NodeRecord:
    """A node once it is ready, or has ended."""
    record = remote.wait(name, lambda now: now.state.ended or now.state is NodeState.READY, timeout_s)
    if record is None:
        raise errors.DeadlineExceeded(
            f"{name} has not come or gone within {timeout_s:g} s, but goes on doing so: where it is tells "
            f"kourou debug {remote.found.run_id} {name}"
        )
    if record.state is NodeState.FAILED and not record.removed:
        raise errors.NodeExited(f"{name} {record.exit.cause if record.exit else record.state}")
    return record
