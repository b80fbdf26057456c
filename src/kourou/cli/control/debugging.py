"""``kourou debug``."""

from __future__ import annotations

from kourou import errors
from kourou.cli.control.profiling import call_py_spy
from kourou.cli.terminal.output import print_text
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun, choose_node
from kourou.runtime.monitoring.stacks import is_far, stacks_of


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
