"""The first process of a pod that is a host: it starts an agent, and another one whenever that has ended.

So a launcher that is started again finds its hosts, and a host that was given up comes back. What was mounted into the
pod is known here by name, for those who write manifests and for the launcher's pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import tarfile
import time
from pathlib import Path

from kourou.runtime.host_agent.dialling import Ended, dial
from kourou.runtime.interpreter.startup import python_command

SECRET, ORDER, AUTHORITY = "/run/kourou/secret", "dial.json", "authority.pem"
"""Where the Secret is mounted; its files: whom agents call, and, for the launcher, what it signs certificates with."""
TREE_PARTS, PLAN_PARTS = "/run/kourou/tree", "/run/kourou/plan"
"""Where the pieces of what travels are mounted."""
WORK = "/run/kourou/work"
"""A folder of the pod's own, gone with it."""
CLAIM = "/run/kourou/claim"
"""Where a volume is mounted that all pods share."""
LAST_WORDS = "/run/kourou/last-words"
"""What is written here, 4 KiB at most, Kubernetes keeps after the container has ended."""
RUN_ID, PATH, PLACES, ONCE = "KOUROU_RUN_ID", "KOUROU_PATH", "KOUROU_PLACES", "KOUROU_ONCE"
"""Variables: the run; folders of the tree that modules are in; the places of a job's pods, in their order; whether the
launcher is never started again."""
COUNTED, IGNORED, MADE_BY = "KOUROU_RESTARTS_COUNTED", "KOUROU_RESTARTS_IGNORED", "KOUROU_PYTHON"
"""Variables of the launcher: how often its pod failed, and was evicted; the Python that the plan was pickled with."""

_TERMINATED = 128 + signal.SIGTERM
_AGAIN = 75  # an agent's exit code: another one may be of use
_PAUSE_S = 1.0


def joined(parts: str) -> bytes:
    """What was taken apart to fit into several Secrets."""
    return b"".join(path.read_bytes() for path in sorted(Path(parts).glob("[0-9]*")))


def enter_tree() -> None:
    """Unpack the folder that travelled, and make it the working folder; or stay in the image's, where none did."""
    if Path(TREE_PARTS).is_dir():
        tree = Path(WORK) / "tree"
        with tarfile.open(fileobj=io.BytesIO(joined(TREE_PARTS))) as archive:
            archive.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _: member)  # asked for since 3.12
            archive.extractall(tree)  # noqa: S202 - from who could have run any command here
        os.chdir(tree)
    for entry in reversed([each for each in os.environ.get(PATH, "").split(":") if each]):
        sys.path.insert(0, str(Path(entry).absolute()))


def main() -> None:
    """Be a host until the pod ends."""
    enter_tree()
    place = os.environ[PLACES].split(",")[int(os.environ.get("JOB_COMPLETION_INDEX", "0"))]
    statement = f"from kourou.runtime.host_agent.pod import be_agent; be_agent({place})"
    agent = 0
    ending = False

    def end(number: int, frame: object) -> None:
        del number, frame
        nonlocal ending
        if not agent:
            os._exit(_TERMINATED)
        ending = True
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(agent, signal.SIGTERM)  # it ends unless it has a launcher: that one may be about to end it in order

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        agent = os.posix_spawn(sys.executable, python_command(statement), os.environ, setsigmask=())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        code = _reap_until(agent)
        agent = 0
        if ending:
            sys.exit(_TERMINATED)  # 0 would mean that this host is done with for good
        if code == 0 and ONCE in os.environ:
            sys.exit(0)
        time.sleep(_PAUSE_S)


def _reap_until(agent: int) -> int:
    """Wait for a child, as the parent of all that has lost its own; its exit code."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == agent:
            return os.waitstatus_to_exitcode(status)


def be_agent(place: int) -> None:
    """Be the agent of a place, for one launcher."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        asyncio.run(dial(f"{SECRET}/{ORDER}", place, ends_on_term=True))
    except Ended as end:
        print(f"kourou agent {place}: {end}", file=sys.stderr)  # noqa: T201 - the pod's log
        sys.exit(_AGAIN if end.was_refused else 0)
    except asyncio.CancelledError:
        sys.exit(_TERMINATED)
