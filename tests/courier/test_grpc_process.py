"""gRPC belongs to the process that used it first."""

from __future__ import annotations

import subprocess
import sys

FORK = """
import os
import kourou as lp
from kourou.courier.lanes.grpcio import standard_services

def launch():
    program = lp.Program("forked")
    program.add_node(lp.PyNode(int), label="node")
    lp.launch(program, "local_mt").wait()

launch()
standard_services.claim()
pid = os.fork()
if pid == 0:
    launch()
    os.write(1, b"launched; ")
    try:
        standard_services.claim()
    except lp.errors.UsedAfterFork as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_a_fork_of_a_launcher_launches_and_does_not_use_what_is_not_its():
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, timeout=50, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("launched; ")
    assert "spawn or forkserver" in done.stdout
