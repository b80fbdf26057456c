"""What the launcher's pod of a JobSet runs: the launcher of a run that was submitted, with what was mounted for it."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path

from kourou.ownership import read_own
from kourou.runtime.files.run_folder import runs_dir
from kourou.runtime.host_agent import pod
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launch.batch.launcher import bring_to_life
from kourou.runtime.launchers.engines.kubernetes_batch import Travelling
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.status import STATUS_FILE, RunStatus
from kourou.runtime.plan.plan import LaunchPlan
from kourou.working_folder import working_folder

_LAST_WORDS_BYTES = 4096
_LINGER_S = 2.0  # shells in this pod end with it: so long they have to tell how the run ended


def main() -> None:
    """Be the launcher."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the first process has no default
    here, wanted = f"{sys.version_info[0]}.{sys.version_info[1]}", os.environ[pod.MADE_BY]
    if here != wanted:
        sys.exit(f"kourou: the image has Python {here}, and the program was submitted with {wanted}: they must agree")
    pod.enter_tree()
    order = DialOrder.read(f"{pod.SECRET}/{pod.ORDER}")
    keys = order.token, Authority.from_pem(read_own(f"{pod.SECRET}/{pod.AUTHORITY}"))
    travelled: Travelling = pickle.loads(pod.joined(pod.PLAN_PARTS))
    runs_dir().mkdir(parents=True, exist_ok=True)
    folder = runs_dir() / os.environ[pod.RUN_ID]
    code = bring_to_life(_at_home(travelled), folder, keys=keys)
    _leave_status(folder)
    time.sleep(_LINGER_S)
    sys.exit(code)


def _leave_status(folder: Path) -> None:
    """Let Kubernetes keep the last status, with as much of it as there is room for."""
    status = RunStatus.from_dict(json.loads(read_own(folder / STATUS_FILE)))
    for told in (status, status.without_details(), dataclasses.replace(status, nodes=())):
        text = json.dumps(told.to_dict(), default=str)
        if len(text) <= _LAST_WORDS_BYTES:
            Path(pod.LAST_WORDS).write_text(text, encoding="ascii")
            return


def _at_home(travelled: Travelling) -> LaunchPlan:
    """The plan with this pod's names of its folder and of its interpreter; what is printed is the pod's log, too."""

    def moved(spec: ProcessSpec) -> ProcessSpec:
        cwd = Path(spec.cwd)
        if cwd.is_relative_to(travelled.cwd):
            cwd = working_folder() / cwd.relative_to(travelled.cwd)
        interpreter = sys.executable if spec.interpreter == travelled.interpreter else spec.interpreter
        return dataclasses.replace(spec, cwd=str(cwd), interpreter=interpreter)

    nodes = tuple(
        dataclasses.replace(node, process=moved(node.process)) if node.process else node
        for node in travelled.plan.nodes
    )
    return dataclasses.replace(travelled.plan, nodes=nodes, terminal="current_terminal")
