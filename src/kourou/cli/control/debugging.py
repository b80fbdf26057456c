"""``kourou debug``."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import typer

from kourou import errors
from kourou.cli.terminal.output import print_text
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun, choose_node
from kourou.runtime.monitoring.stacks import is_far, stacks_of

__all__ = ["show_stacks"]


def show_stacks(found: FoundRun, word: str, *, py_spy: bool) -> None:
    """Print where every thread of a node is."""
    if not found.state.live:
        raise errors.ServerUnavailable(
            f"run {found.run_id} is not running here ({found.state}): kourou logs has the rest"
        )
    with RemoteRun(found) as remote:
        nodes = {node.name: node for node in remote.status().nodes}
        name = choose_node(list(nodes), word)
        node = nodes[name]
        if py_spy and node.pid is not None and not node.state.ended:
            if is_far(found, node):
                raise errors.NodeExited(f"{name} runs on {node.host}: start py-spy there, for process {node.pid}")
            _py_spy(node.pid)
        else:
            print_text(stacks_of(remote, name, nodes))


def _py_spy(pid: int) -> None:
    """py-spy's view, printed by itself; it needs the right to trace processes."""
    beside = Path(sys.executable).with_name("py-spy")
    command = str(beside) if beside.exists() else shutil.which("py-spy")
    if command is None:
        raise errors.PlanError(
            "py-spy is not installed; get it with: pip install py-spy (without --py-spy none is needed)"
        )
    sys.stdout.flush()
    code = subprocess.run([command, "dump", "--pid", str(pid)], check=False).returncode
    if code != 0:
        hint = "" if code == -signal.SIGINT else "; tracing another process may need root, see kernel.yama.ptrace_scope"
        typer.echo(f"kourou: py-spy ended with code {code}{hint}", err=True)
        raise typer.Exit(1)
