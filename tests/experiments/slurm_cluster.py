"""A real Slurm on this machine: munged, slurmctld and three slurmd, each a "node" with four made-up GPUs.

They are on this host, or each on a host of its own. Nothing is simulated but the size of the machine. There is no
accounting, as on many clusters. It needs root, and the packages slurm-wlm and munge; .ci/run installs them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from polling import until
from spmd.machines import Machines

NODES = 3
GPUS = 4
_START_S = 30.0

_CONFIG = """
ClusterName=kourou-tests
SlurmctldHost={host}({address})
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=3
SlurmdTimeout=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=300
MaxArraySize=1001
GresTypes=gpu
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-{count}] MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=first Nodes=n1 MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=others Nodes=n[2-{count}] MaxTime=INFINITE State=UP PriorityTier=1
"""
_NODE = (
    "NodeName=n{i} NodeHostname={host} NodeAddr={address} Port={port} CPUs=4 Sockets=1 CoresPerSocket=4 "
    "ThreadsPerCore=1 RealMemory=1000 Gres=gpu:{gpus}"
)


@contextlib.contextmanager
def slurm_cluster(folder: Path, machines: Machines | None = None) -> Iterator[Path]:
    """Start it, give its ``slurm.conf``, and end it.

    Args:
        folder: for its files.
        machines: the hosts of its nodes n1 to n3; None: they are all here.
    """
    tools = {name: _tool(name) for name in ("munged", "slurmctld", "slurmd", "sinfo")}
    config = _configure(folder, machines)
    env = {**os.environ, "SLURM_CONF": str(config)}
    munge = {f"--{name}-file": folder / "munge" / name for name in ("key", "pid", "log", "seed")}
    munge["--socket"] = folder / "munge" / "socket"
    try:
        places = [f"{option}={path}" for option, path in munge.items()]
        _start([tools["munged"], "--force", "--num-threads=2", *places], env)
        _start([tools["slurmctld"], "-f", str(config), "-c"], env)
        for i in range(1, NODES + 1):
            (folder / f"spool-n{i}").mkdir()
            there = [] if machines is None else machines.inside(machines.names[i - 1])
            _start([*there, tools["slurmd"], "-f", str(config), "-N", f"n{i}"], env)
        until(lambda: _idle(tools["sinfo"], env) == NODES, _START_S, f"nodes that are idle; see {folder}/*.log")
        yield config
    finally:
        _end(folder)


def _configure(folder: Path, machines: Machines | None) -> Path:
    for name in ("munge", "state"):
        (folder / name).mkdir(parents=True)
    for place in (folder, folder / "munge", folder / "state"):
        place.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    host, ports = socket.gethostname().partition(".")[0], _free_ports(NODES + 1)
    own = (
        [(host, "127.0.0.1")] * NODES
        if machines is None
        else [(name, machines.address(name)) for name in machines.names]
    )
    nodes = "\n".join(
        _NODE.format(i=i, host=name, address=address, port=ports[i], gpus=GPUS)
        for i, (name, address) in enumerate(own, 1)
    )
    address = "127.0.0.1" if machines is None else machines.outside
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    config = folder / "slurm.conf"
    config.write_text(
        _CONFIG.format(folder=folder, host=host, address=address, user=user, ports=ports, nodes=nodes, count=NODES),
        encoding="utf-8",
    )
    for i in range(GPUS):
        os.mknod(folder / f"gpu{i}", 0o666 | 0o020000, os.makedev(1, 3))  # /dev/null by another name
    gres = f"AutoDetect=off\nNodeName=n[1-{NODES}] Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n"
    (folder / "gres.conf").write_text(gres, encoding="utf-8")
    return config


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"there is no {name}: these tests need the packages slurm-wlm and munge"
    return found


def _start(command: list[str], env: dict[str, str]) -> None:
    # Daemons leave their starter's pipes open, so their words go to a file.
    with Path(os.devnull).open("wb") as null:
        subprocess.run(command, env=env, check=True, stdin=null, stdout=null, stderr=null, timeout=_START_S)


def _idle(sinfo: str, env: dict[str, str]) -> int:
    command = [sinfo, "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N"]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    return len(set(re.findall(r"n\d+", done.stdout)))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end(folder: Path) -> None:
    pids = []
    for file in [*sorted(folder.glob("slurmd-*.pid")), folder / "slurmctld.pid", folder / "munge" / "pid"]:
        with contextlib.suppress(OSError, ValueError):
            pids.append(int(file.read_text(encoding="ascii")))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until(lambda: not any(_lives(pid) for pid in pids), _START_S, f"the end of Slurm's daemons {pids}")
    # What watched a job's end goes on trying to tell it to a controller that is no more.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "slurmstepd" and process.environ().get("SLURM_CONF") == f"{folder}/slurm.conf":
                process.kill()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
