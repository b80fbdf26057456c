"""``kourou debug``, ``attach`` and ``profile``: where a node is, and what others' tools do with it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import typer

from kourou import errors
from kourou.cli.terminal.output import FAILED, print_json, print_text, tell
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_node
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.stacks import is_far, stacks_of
from kourou.runtime.node_process.metering import ask_attach

_ANSWER_S = 30.0  # debugpy starts a process of its own


def attach_debugger(found: FoundRun, word: str, *, as_json: bool) -> None:
    """Let a node listen for debuggers, and say how an editor attaches to it."""
    with RemoteRun(found) as remote:
        node = _running(remote, word)
        port = int(ask_attach(remote.client(node.name)).result(_ANSWER_S))
        far = is_far(found, node)
    recipe = {
        "name": f"kourou {node.name}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": port},
        "justMyCode": True,
    }
    if as_json:
        print_json({"node": node.name, "host": node.host, "port": port, "vscode": recipe})
        return
    print_text(f"{node.name} listens for debuggers at 127.0.0.1:{port} on {node.host}, until it ends.")
    print_text("It asks for no password: whoever may log in there may attach.")
    if far:
        print_text(f"Bring the port here first: ssh -N -L {port}:127.0.0.1:{port} {node.host}")
    print_text("For VS Code, among the configurations of .vscode/launch.json:")
    print_text(json.dumps(recipe, indent=4))


def record_profile(found: FoundRun, word: str, *, duration_s: int, out: Path | None) -> None:
    """Let py-spy look at a node for a while, and write what it saw as a file for speedscope."""
    with RemoteRun(found) as remote:
        node = _running(remote, word)
    if is_far(found, node):
        raise errors.NodeExited(f"{node.name} runs on {node.host}: start py-spy there, for process {node.pid}")
    file = out or Path(f"{node.name.replace('/', '-')}.speedscope.json")
    tell(f"py-spy looks at {node.name} (process {node.pid}) for {duration_s} s")
    call_py_spy(
        "record", "--pid", str(node.pid), "--duration", str(duration_s), "--format", "speedscope", "--output", str(file)
    )
    print_text(f"{file}: drop it on https://www.speedscope.app, or: npx speedscope {file}")


def _running(remote: RemoteRun, word: str) -> NodeRecord:
    """The node that a person means, if it has a process."""
    nodes = {node.name: node for node in remote.status().nodes}
    node = nodes[choose_node(nodes, word)]
    if node.state.ended or node.pid is None:
        raise errors.NodeExited(f"{node.name} has no process: its state is {node.state}")
    return node


def call_py_spy(*words: str) -> None:
    """Run py-spy, which prints by itself; it needs the right to trace processes."""
    beside = Path(sys.executable).with_name("py-spy")
    command = str(beside) if beside.exists() else shutil.which("py-spy")
    if command is None:
        raise errors.MissingExtra("py-spy", "debug")
    sys.stdout.flush()
    code = subprocess.run([command, *words], check=False).returncode
    if code != 0:
        hint = "" if code == -signal.SIGINT else "; tracing another process may need root, see kernel.yama.ptrace_scope"
        tell(f"py-spy ended with code {code}{hint}")
        raise typer.Exit(FAILED)


def show_stacks(found: FoundRun, word: str, *, py_spy: bool) -> None:
    """Print where every thread of a node is."""
    with RemoteRun(found) as remote:
        nodes = {node.name: node for node in remote.status().nodes}
        name = choose_node(nodes, word)
        node = nodes[name]
        if py_spy and node.pid is not None and not node.state.ended:
            if is_far(found, node):
                raise errors.NodeExited(f"{name} runs on {node.host}: start py-spy there, for process {node.pid}")
            call_py_spy("dump", "--pid", str(node.pid))
        else:
            print_text(stacks_of(remote, name, nodes))
