"""Where the threads of a run's nodes are, asked by another process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

import psutil

from kourou import errors
from kourou.runtime.files.growing_file import GrowingFile
from kourou.runtime.files.run_folder import node_log
from kourou.runtime.interpreter.stacks import DUMP_STACKS, STACK_LINE, stacks_file
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.node_environment import COOKIE
from kourou.runtime.node_process.metering import ask_stacks
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.process.process_table import make_cookie

_TIMEOUT_S = 5.0
_QUIET_S = 0.3  # the dump is complete when the file has not grown for this long
_POLL_S = 0.02
_LONG = 1 << 20  # bytes; then the file begins anew


def is_far(found: FoundRun, node: NodeRecord) -> bool:
    """Whether a node is on another host, where only itself can look at it."""
    return LaunchType(found.info.launch_type).hosts and node.host not in {found.info.host, "localhost"}


def stacks_of(remote: RemoteRun, name: str, nodes: Mapping[str, NodeRecord], timeout_s: float = _TIMEOUT_S) -> str:
    """The stacks of a node's threads, its main thread's first; of a node that is a thread, those of its process.

    Raises:
        NodeExited: it has no process.
        DeadlineExceeded: its process told nothing.
    """
    found, node = remote.found, nodes[name]
    if node.state.ended or node.pid is None:
        raise errors.NodeExited(f"{name} has no process: its state is {node.state}")
    if is_far(found, node):
        return str(ask_stacks(remote.client(name)).result(timeout_s))
    if node.pid == found.info.pid:
        return remote.stacks()
    return _dump_stacks(found, _process_owner(found.run_id, node, nodes), node.pid, timeout_s)


def _dump_stacks(found: FoundRun, owner: str, pid: int, timeout_s: float) -> str:
    """Let the node write its stacks, and return what it wrote."""
    log = node_log(found.path, owner)
    try:
        file = stacks_file(pid, log)
    except OSError as error:
        raise errors.NodeExited(f"{owner} (process {pid}) cannot be looked at: {error}") from error
    if file is None:
        raise errors.DeadlineExceeded(
            f"{owner} (process {pid}) tells no stacks: it is a command and no Python node, or begins just now; "
            "--py-spy looks from outside"
        )
    offset = file.stat().st_size if file.exists() else 0
    if file != log and offset > _LONG:
        os.truncate(file, offset := 0)
    os.kill(pid, DUMP_STACKS)
    deadline = time.monotonic() + timeout_s
    written, said = GrowingFile(file, offset), b""
    text, quiet_since = "", time.monotonic()
    while time.monotonic() < deadline:
        said += written.read()
        more = _stack_lines(said.decode(errors="replace"))
        if more != text:
            text, quiet_since = more, time.monotonic()
        elif text and time.monotonic() - quiet_since > _QUIET_S:
            return _main_thread_first(text)
        time.sleep(_POLL_S)
    raise errors.DeadlineExceeded(
        f"{owner} (process {pid}) told no stacks within {timeout_s:g} s: is it suspended? --py-spy looks from outside"
    )


def _stack_lines(text: str) -> str:
    """What faulthandler wrote; the node may print while it does."""
    return "\n".join(line for line in text.split("\n") if STACK_LINE.match(line))


def _main_thread_first(text: str) -> str:
    """One paragraph a thread; faulthandler has the one that took the signal, which is the main thread, last."""
    threads = re.split(r"\n(?=Current thread|Thread)", text)
    return "\n\n".join(sorted(threads, key=lambda thread: not thread.startswith("Current")))


def _process_owner(run_id: str, node: NodeRecord, nodes: Mapping[str, NodeRecord]) -> str:
    """The node that owns a node's process: a child of a colocation may be a thread of its parent's.

    Found by the cookie in the process's environment, since a signal must not reach a process that got an old pid.
    """
    try:
        cookie = psutil.Process(node.pid).environ().get(COOKIE, "").rstrip()
    except psutil.Error:
        cookie = ""
    for name, record in nodes.items():
        if record.pid == node.pid and cookie == make_cookie(run_id, name, record.attempt):
            return name
    raise errors.NodeExited(f"process {node.pid} is not {node.name} any more, or runs on another host ({node.host})")
