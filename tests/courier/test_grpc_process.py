"""gRPC belongs to the process that used it first."""

from __future__ import annotations

import subprocess
import sys

LAUNCHES_IN_A_FORK = """
import os
import kourou as lp

def launch():
    program = lp.Program("forked")
    program.add_node(lp.PyNode(int), label="node")
    lp.launch(program, "local_mt").wait()

launch()
pid = os.fork()
if pid == 0:
    try:
        launch()
    except lp.errors.UsedAfterFork as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_a_fork_of_a_launcher_is_told_to_launch_elsewhere():
    command = [sys.executable, "-c", LAUNCHES_IN_A_FORK]
    done = subprocess.run(command, timeout=50, check=True, capture_output=True, text=True)
    assert "spawn or forkserver" in done.stdout
