"""Slurm: salloc holds the hosts, one step of srun starts an agent on each. Inside an allocation, that one is used."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kourou import errors
from kourou.runtime.files.descriptors import is_readable
from kourou.runtime.launchers.engines import slurm_commands
from kourou.runtime.launchers.engines.base import AgentCommand, Engine
from kourou.runtime.launchers.engines.children import await_end, last_words, words_in
from kourou.runtime.model.engine_options import Slurm
from kourou.runtime.model.engines import Shape

# The allocation ends with a pipe that the launcher holds: its command reads that to the end, and while it is pending,
# whoever else does tells salloc to give up. So a launcher that is killed leaves none. A moment later, since salloc
# may hang when it is told to at the very moment at which its command ends.
_KEEPER = """exec 3<&0
"$@" </dev/null & child=$!
{ cat <&3; sleep 1; kill -TERM $child; sleep 4; scancel "$(cat salloc.job)"; kill -KILL $child; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $child; code=$?
kill $watch; exit $code"""
_HOLD = 'echo "$SLURM_JOB_ID" >salloc.job; echo "$SLURM_JOB_ID $SLURM_JOB_NODELIST"; exec cat <&3 >/dev/null'

_STEP = ("--overlap", "--no-kill", "--wait=0", "--kill-on-bad-exit=0", "--ntasks-per-node=1", "--unbuffered")
_END_S = 10.0


class SlurmEngine(Engine):
    """An allocation of Slurm's."""

    loopback, port, patient = False, 0, False

    def __init__(self, options: Slurm, *, name: str, folder: Path) -> None:
        self._options = options
        self._name = name
        self._folder = folder
        self._job = ""
        self._nodes: list[str] = []
        self._shape = Shape(hosts=1, cpus=1, gpus=0)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._told = b""  # by the command of salloc
        self._steps: list[subprocess.Popen[bytes]] = []

    def allocate(self, shape: Shape) -> None:
        self._shape = shape
        if job := os.environ.get("SLURM_JOB_ID"):
            self._take(os.environ.get("SLURM_HET_JOB_ID", job), os.environ.get("SLURM_JOB_NODELIST", ""))
            return
        arguments = self._options.arguments(self._name, shape)
        with (self._folder / "salloc.log").open("wb") as said:
            try:
                self._keeper = subprocess.Popen(
                    ["/bin/sh", "-c", _KEEPER, "sh", "salloc", *arguments, "sh", "-c", _HOLD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    cwd=self._folder,
                    env=slurm_commands.outer_environment(),
                    start_new_session=True,  # Ctrl-C is the launcher's to hear
                )
            except OSError as error:
                raise errors.LaunchError(f"salloc cannot be run: {error}") from error

    def granted(self, timeout_s: float) -> bool:
        if self._job and self._nodes:
            return True
        assert self._keeper is not None  # noqa: S101 - it was asked
        assert self._keeper.stdout is not None  # noqa: S101 - a pipe
        if not is_readable(self._keeper.stdout.fileno(), timeout_s):
            return False
        piece = os.read(self._keeper.stdout.fileno(), 1 << 16)
        if not piece:
            raise errors.LaunchError(f"Slurm gives no hosts:\n{self.words()}")
        self._told += piece
        if self._told.endswith(b"\n"):
            job, _, nodes = self._told.decode().strip().partition(" ")
            self._take(job, nodes)
        return bool(self._nodes)

    def why_pending(self) -> str:
        said = last_words(self._folder / "salloc.log")
        if found := re.search(r"job allocation (\d+)", said):
            self._job = found[1]
        if not self._job:
            return ""
        reason = slurm_commands.pending_reason(self._job)
        return f"job {self._job}, which is pending: {reason}" if reason else ""

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        first, parts = 0, self._shape.parts
        for number, part in enumerate(parts):
            own = range(first, first + part.hosts)
            component = [f"--het-group={number}"] if len(parts) > 1 else []
            if set(own) <= set(places):
                self._start_step(component, own, command(f"{first}+SLURM_NODEID"))
            else:
                for place in set(own).intersection(places):
                    self._start_step(component, [place], command(str(place)))
            first += part.hosts

    def _start_step(self, component: Sequence[str], places: Sequence[int], command: Sequence[str]) -> None:
        nodes = [self._nodes[place] for place in places]
        step = ["srun", f"--jobid={self._job}", *component, f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}"]
        step += [f"--nodelist={','.join(nodes)}", *_STEP, "--cpu-bind=none"]
        self._steps = [each for each in self._steps if each.poll() is None]  # those that ended are no zombies
        with (self._folder / "srun.log").open("ab") as said:
            self._steps.append(
                subprocess.Popen(
                    [*step, f"--output={slurm_commands.quoted(self._folder)}/%N.log", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    env=slurm_commands.outer_environment(),
                    start_new_session=True,
                )
            )

    def words(self) -> str:
        return words_in(self._folder)

    def release(self) -> None:
        deadline = time.monotonic() + _END_S
        for step in self._steps:  # which have ended with their agents, as a rule
            await_end(step, deadline)
        self._steps.clear()
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        assert keeper.stdin is not None  # noqa: S101 - a pipe
        assert keeper.stdout is not None  # noqa: S101 - a pipe
        keeper.stdin.close()
        if not await_end(keeper, time.monotonic() + _END_S) and self._job:
            with contextlib.suppress(errors.LaunchError):
                slurm_commands.cancel_jobs([self._job])
        keeper.stdout.close()

    def _take(self, job: str, nodes: str) -> None:
        """The job is there; its hosts, if they are known, are all alike."""
        parts = self._shape.parts
        lists = [nodes] if nodes and len(parts) == 1 else slurm_commands.job_nodes(job)
        self._job, self._nodes = job, []
        for number, part in enumerate(parts):
            names = slurm_commands.host_names(lists[number]) if number < len(lists) else []
            if len(names) < part.hosts:
                has = f"{len(names)} hosts ({', '.join(names)})" + f" in component {number}" * (len(parts) > 1)
                raise errors.LaunchError(f"job {job} has {has}, and the program needs {part.hosts}")
            self._nodes += names[: part.hosts]
