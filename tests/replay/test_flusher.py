"""The thread that sends what replay writers have not sent themselves."""

from __future__ import annotations

import subprocess
import sys

IN_A_FORK = """
import os, threading
from kourou.replay.writers.flusher import flusher

class Writer:
    def __init__(self):
        self.sent = threading.Event()
    def send_pending(self):
        self.sent.set()
        return False

parents = Writer()
flusher.watch(parents)
flusher.wake()
assert parents.sent.wait(30)
parents.sent.clear()
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
else:
    own = Writer()
    flusher.watch(own)
    flusher.wake()
    os._exit(0 if own.sent.wait(30) and not parents.sent.is_set() else 1)
"""


def test_a_child_of_fork_has_a_thread_of_its_own_for_its_own_writers() -> None:
    subprocess.run([sys.executable, "-c", IN_A_FORK], check=True, timeout=60)
