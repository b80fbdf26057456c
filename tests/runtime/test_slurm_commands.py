"""What Slurm's commands print, where the tests' own Slurm does not: it has no accounting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import kourou as lp
from kourou.errors import LaunchError
from kourou.runtime.files.run_info import RunInfo
from kourou.runtime.launchers.engines.base import Submission
from kourou.runtime.launchers.engines.children import words_in
from kourou.runtime.launchers.engines.slurm import SlurmEngine
from kourou.runtime.launchers.engines.slurm_commands import final_state, job_nodes, own_time_left, quoted, submit
from kourou.runtime.model.engines import Shape
from polling import WAIT_S, until


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands, in place of all others."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def submission(folder: Path) -> Submission:
    return Submission(script="true", path=folder / "job.sh", command=("sbatch", "--parsable", f"{folder}/job.sh"))


FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
NO_ACCOUNTING = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
REMEMBERED = "echo 'JobId=7 JobName=x JobState=NODE_FAIL Reason=NodeDown Dependency=(null)'"


@pytest.mark.parametrize(
    ("sacct", "scontrol", "state"),
    [
        # slurmctld forgets a job after minutes, accounting does not
        ("echo 'CANCELLED by 1000'", FORGOTTEN, "CANCELLED"),
        # a job that was requeued has a line for each time
        ("printf 'PREEMPTED\\nCOMPLETED\\n'", FORGOTTEN, "COMPLETED"),
        # accounting lags behind by seconds
        ("echo RUNNING", REMEMBERED, "NODE_FAIL"),
        ("true", REMEMBERED, "NODE_FAIL"),
        (NO_ACCOUNTING, REMEMBERED, "NODE_FAIL"),
        (NO_ACCOUNTING, FORGOTTEN, None),
    ],
)
def test_accounting_is_asked_first_and_then_the_controller(
    tools: Path, sacct: str, scontrol: str, state: str | None
) -> None:
    tool(tools, "sacct", f'test "$*" = "-n -P -X -D -j 7_2 -o State" || exit 9\n{sacct}')
    tool(tools, "scontrol", f'test "$*" = "-o show job 7_2" || exit 9\n{scontrol}')
    found = final_state("7_2")
    assert (found.state if found else None) == state


def test_a_federated_cluster_says_which_it_is(tools: Path) -> None:
    tool(tools, "sbatch", "echo '12;east'")
    assert submit(submission(tools)) == "12"


@pytest.mark.parametrize("printed", ["echo", "echo 'Submitted batch job 12'", "echo no >&2; exit 1"])
def test_what_is_no_jobs_id_is_an_error(tools: Path, printed: str) -> None:
    tool(tools, "sbatch", printed)
    with pytest.raises(LaunchError):
        submit(submission(tools))


def test_a_missing_command_is_named(tools: Path) -> None:
    with pytest.raises(LaunchError, match="sbatch"):
        submit(submission(tools))
    assert final_state("1") is None


def test_the_hosts_of_a_job_are_asked_for(tools: Path) -> None:
    tool(tools, "scontrol", "echo 'JobId=7 ReqNodeList=(null) ExcNodeList=(null) NodeList=n[1-2] BatchHost=n1'")
    assert job_nodes("7") == ["n[1-2]"]
    tool(tools, "scontrol", "printf 'HetJobOffset=0 NodeList=n1 B=n1\\nHetJobOffset=1 NodeList=n[2-3] B=n2\\n'")
    assert job_nodes("7") == ["n1", "n[2-3]"]
    tool(tools, "scontrol", "echo 'JobId=7 ReqNodeList=(null) ExcNodeList=(null) NodeList=(null)'")
    with pytest.raises(LaunchError, match="SLURM_JOB_ID is set, but job 7 has no hosts"):
        job_nodes("7")


def test_a_folder_is_no_pattern() -> None:
    assert quoted(Path("/runs/100%j of them")) == "/runs/100%%j of them"


@pytest.mark.parametrize(
    ("scancel", "told"),
    [
        ("true", "and cancelled again"),
        ("echo closed >&2; exit 1", "nor was it cancelled: scancel exited with 1: closed"),
    ],
)
def test_a_job_that_no_shell_would_find_is_cancelled(tools: Path, scancel: str, told: str) -> None:
    # Given a disk that refuses what is written once the job was submitted
    runs = tools / "runs"
    tool(tools, "sbatch", f"for run in {runs}/*; do /bin/mkdir $run/submitted.json; done; echo 7")
    tool(tools, "scancel", f"echo $* >{tools}/cancelled; {scancel}")
    program = lp.Program("lost")
    program.add_node(lp.PyNode(print), label="worker")
    # When
    with pytest.raises(LaunchError, match=f"job 7 was submitted.*{told}"):
        lp.submit(program, lp.Slurm(), run_dir=runs)
    # Then
    assert (tools / "cancelled").read_text() == "--quiet 7\n"
    assert bool(list(runs.iterdir())) is (scancel != "true")


def test_so_is_one_whose_submission_is_interrupted(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> RunInfo:
        raise KeyboardInterrupt

    monkeypatch.setattr("kourou.runtime.launch.batch.submit._submitted", interrupted)
    tool(tools, "sbatch", "echo 7")
    tool(tools, "scancel", f"echo $* >{tools}/cancelled")
    program = lp.Program("lost")
    program.add_node(lp.PyNode(print), label="worker")
    with pytest.raises(KeyboardInterrupt):
        lp.submit(program, lp.Slurm(), run_dir=tools / "runs")
    assert (tools / "cancelled").read_text() == "--quiet 7\n"
    assert not list((tools / "runs").iterdir())


def test_steps_of_agents_that_ended_are_no_zombies(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an agent that was lost
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n1")
    tool(tools, "scontrol", "echo n1")
    tool(tools, "srun", "exit 1")
    engine = SlurmEngine(lp.Slurm(), name="zombies", folder=tools)
    engine.allocate(Shape(hosts=1, cpus=1, gpus=0))
    engine.start_agents(lambda place: ["agent", place], [0])
    before = psutil.Process(engine._steps[0].pid)
    until(lambda: before.status() == psutil.STATUS_ZOMBIE, WAIT_S)
    # When it is started again
    engine.start_agents(lambda place: ["agent", place], [0])
    # Then
    assert not before.is_running()
    engine.release()


@pytest.mark.parametrize(
    ("printed", "left_s"),
    [("0:59", 59.0), ("1:02:03", 3723.0), ("2-00:00:01", 172801.0), ("UNLIMITED", None), ("", None)],
)
def test_what_is_left_of_a_jobs_time(
    tools: Path, monkeypatch: pytest.MonkeyPatch, printed: str, left_s: float | None
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    tool(tools, "squeue", f'test "$*" = "-h -j 7 -o %L" || exit 9\necho {printed}')
    assert own_time_left() == left_s


PUT_BACK = """
import contextlib, signal
from kourou.runtime.launchers.engines.batch_systems import put_back
from kourou.runtime.launchers.engines.slurm_batch import BATCH
from kourou.runtime.stopping.held_signal import HeldSignal
HeldSignal(signal.SIGUSR1).deliver_to(lambda: print("told", flush=True))
put_back(BATCH, 1, contextlib.nullcontext())
print("goes on", flush=True)
"""


@pytest.mark.parametrize("end", ["", "kill -TERM $$"], ids=["told", "ended by Slurm with the job"])
def test_a_job_that_was_put_back_waits_for_its_end_whatever_else_it_is_told(tools: Path, end: str) -> None:
    # Given a job that is put back into the queue
    tool(tools, "scontrol", f": >{tools}/asked\n{end}")
    env = {**os.environ, "SLURM_JOB_ID": "7"}
    with subprocess.Popen([sys.executable, "-c", PUT_BACK], env=env, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        until((tools / "asked").exists, WAIT_S)
        # When it is told of its limit again, and again
        for _ in range(2):
            job.send_signal(signal.SIGUSR1)
            assert job.stdout.readline() == "told\n"
        # Then Slurm ends it, and not it itself
        job.terminate()
        assert job.stdout.read() == ""
    assert job.returncode == -signal.SIGTERM


def test_of_the_logs_of_many_hosts_those_are_quoted_that_were_written_last(tmp_path: Path) -> None:
    for number in range(100):
        log = tmp_path / f"{number:03}.log"
        log.write_text(f"{number} " + "x" * 2_000)
        os.utime(log, (number, number))
    failed = tmp_path / "007.log"
    failed.write_text("it failed\n")
    words = words_in(tmp_path)
    assert "    it failed\n" in words
    assert len(words) < 10_000
