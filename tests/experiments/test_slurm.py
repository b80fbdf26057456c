"""Sweeps on a real Slurm."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import kourou as lp
from e2e.slurm_jobs import reach_the_limit
from experiments.slurm_cluster import slurm_cluster
from experiments.sweeping import by_name, python_run, shell_run, states
from experiments.test_hydra import NEEDS_HYDRA, multirun
from kourou import experiments
from kourou.experiments import Retry, RunSpec, Share, SlurmOptions, SweepOptions, run_sweep
from kourou.experiments.journal.journal import read_records
from kourou.experiments.slurm.launch import plan_slurm_sweep, run_slurm_sweep
from kourou.experiments.slurm.watch import refresh
from optional import pytest
from polling import until

# Each job starts a Python of its own; on a busy machine that takes its time.
pytestmark = [pytest.mark.needs("slurm"), pytest.mark.usefixtures("cluster", "no_leaks")]


@pytest.fixture(scope="module")
def slurm_conf():
    # A short path: munged and Slurm have sockets in there.
    with tempfile.TemporaryDirectory(prefix="kourou-slurm-") as folder, slurm_cluster(Path(folder) / "s") as config:
        yield config


@pytest.fixture
def cluster(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    return slurm_conf


def slurm(**changes) -> SlurmOptions:
    return SlurmOptions(**{"poll_s": 0.1, **changes})


def sweep(top: Path, runs, **options):
    given = options.pop("slurm", slurm())
    return run_slurm_sweep(runs, top / "sweep", slurm=given, **options)


def stdout(run: RunSpec) -> str:
    return (Path(run.folder) / "stdout.log").read_text(encoding="utf-8")


HOSTILE = ["a b", "q\"uo'te", "$HOME `id` \\", "ünï\N{ROCKET}", "*", ""]
SHOW = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["ODD"], os.environ["SLURM_JOB_ID"]]))
"""


def test_arrays_run_everything_with_its_arguments_variables_and_gpus(tmp_path: Path) -> None:
    runs = [
        python_run(tmp_path, f"r {i}", SHOW, *HOSTILE, str(i), env={"ODD": f'x "{i}" $y'}, params={"i": i})
        for i in range(9)
    ]
    outcome = sweep(tmp_path, runs, slurm=slurm(gpus=2, max_array_size=4, at_once=3, job_name="odd name"))
    assert outcome.exit_code == 0
    assert set(states(outcome).values()) == {"SUCCEEDED"}
    for i, run in enumerate(runs):
        words, gpus, odd, job = json.loads(stdout(run))
        assert (words, odd) == ([*HOSTILE, str(i)], f'x "{i}" $y')
        assert gpus in {"0,1", "2,3"}
        told = json.loads((Path(run.folder) / "run.json").read_text())
        assert told["job"] == outcome.records[i].job
        assert (told["params"], told["argv"][-1]) == ({"i": i}, str(i))
        assert job
    # 9 runs in arrays of at most 4
    arrays = Counter(record.job.partition("_")[0] for record in outcome.records)
    assert sorted(arrays.values()) == [1, 4, 4]
    # and what has finished is not submitted again
    again = sweep(tmp_path, runs)
    assert [record.job for record in again.records] == [record.job for record in outcome.records]


def test_failures_keep_code_and_last_lines_and_a_job_that_dies_is_noticed(tmp_path: Path) -> None:
    runs = [
        shell_run(tmp_path, "bad", "echo oh no >&2; exit 7"),
        shell_run(tmp_path, "good", "true"),
        # as Slurm would end it, but it was not Slurm
        shell_run(tmp_path, "terminated", "kill -TERM $$; sleep 30"),
        # ends what runs it in its job, which can tell nothing any more
        shell_run(tmp_path, "gone", "scancel -s KILL --batch ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; sleep 30"),
    ]
    outcome = sweep(tmp_path, runs)
    records = by_name(outcome)
    assert outcome.exit_code == 1
    assert (str(records["bad"].state), records["bad"].code, records["bad"].last_lines) == ("FAILED", 7, ("oh no",))
    assert str(records["good"].state) == "SUCCEEDED"
    assert (str(records["terminated"].state), records["terminated"].signal) == ("FAILED", "SIGTERM")
    assert str(records["gone"].state) == "FAILED"
    assert "its job failed" in records["gone"].cause


SAVING = """
test -e $KOUROU_RUN_DIR/saved && echo goes on && exit 0
trap 'touch $KOUROU_RUN_DIR/saved; exit 0' USR1
touch $KOUROU_RUN_DIR/begun
while true; do sleep 0.02; done
"""


def near_its_limit(records, folder: Path) -> None:
    """What Slurm does some time before a job's limit; the smallest limit is a minute."""
    if folder.joinpath("begun").exists():
        folder.joinpath("begun").unlink()
        subprocess.run(["scancel", "--signal=USR1", "--batch", records.job], check=True)


def test_a_run_near_its_time_limit_saves_its_work_and_goes_on_under_the_same_id(tmp_path: Path) -> None:
    run = shell_run(tmp_path, "long", SAVING)
    jobs = []
    with Follower(tmp_path, [run], slurm()) as follow:
        until((Path(run.folder) / "begun").exists, 40, "the run to begin")
        (record,) = read_records(tmp_path / "sweep").values()
        jobs.append(record.job)
        near_its_limit(record, Path(run.folder))
        outcome = follow()
    (record,) = outcome.records
    assert (str(record.state), record.attempt, record.job) == ("SUCCEEDED", 2, jobs[0]), record
    assert stdout(run) == "goes on\n"


def test_requeues_are_bounded(tmp_path: Path) -> None:
    run = shell_run(tmp_path, "long", SAVING)
    with Follower(tmp_path, [run], slurm(requeues=0)) as follow:
        until((Path(run.folder) / "begun").exists, 40, "the run to begin")
        (record,) = read_records(tmp_path / "sweep").values()
        near_its_limit(record, Path(run.folder))
        outcome = follow()
    (record,) = outcome.records
    assert (str(record.state), record.attempt) == ("TIMEOUT", 1)
    assert "reached its time limit" in record.cause


class Follower:
    """Runs a sweep in a thread, to be joined by calling what ``with`` gives."""

    def __init__(self, top: Path, runs, options: SlurmOptions, engine: SweepOptions | None = None) -> None:
        import concurrent.futures

        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._future = self._pool.submit(sweep, top, runs, slurm=options, options=engine)

    def __enter__(self):
        return lambda: self._future.result(120)

    def __exit__(self, *exc_info):
        self._pool.shutdown()


TEMPLATE = """#!/bin/bash
# a comment with $HOME and $$dollars
export FROM_TEMPLATE="gpu $GPU cpu $CPU timeout $TIMEOUT"
timeout 60 $CMD
"""
MODULE = """
from kourou.experiments import Experiment, ParamGrid, RunDescription
grid = ParamGrid([("seed", [1, 2]), ("note", ["it's a $HOME note"])])
command = "sh -c 'echo \\"$FROM_TEMPLATE|$HOME|$@\\"' sh"
RUN_DESCRIPTION = RunDescription("described", [Experiment("base", command, grid.generate_params(False))])
"""


def test_sample_factorys_flags_and_a_template_submit_and_another_shell_sees_the_end(tmp_path: Path) -> None:
    (tmp_path / "described.py").write_text(MODULE)
    (tmp_path / "template.sh").write_text(TEMPLATE)
    command = [sys.executable, "-m", "kourou.experiments.run", "--run=described", "--backend=slurm"]
    command += ["--slurm_gpus_per_job=1", "--slurm_cpus_per_gpu=2", "--slurm_workdir=work dir"]
    command += ["--slurm_sbatch_template=template.sh", "--slurm_timeout=5m", "--slurm_partition=main"]
    printed = subprocess.run(
        [*command, "--slurm_print_only=True"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__", "runs"} == {"described.py", "template.sh"}
    assert printed.count("sbatch --parsable") == 2
    assert "a comment with $HOME and $dollars" in printed
    # when it is submitted in truth, and its launcher has left
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    folder = tmp_path / "train_dir" / "described"
    assert "kourou sweep status --watch" in done.stderr

    def ended():
        refresh(folder)
        return all(record.state.ended for record in read_records(folder).values())

    until(ended, 90, "the end of both jobs")
    records = list(read_records(folder).values())
    assert [str(record.state) for record in records] == ["SUCCEEDED"] * 2
    line = (Path(records[1].folder) / "stdout.log").read_text().strip()
    arguments = (
        f"--seed=2 --note=it's a $HOME note --experiment={records[1].name} --train_dir=./train_dir/described/base_"
    )
    assert line == f"gpu 1 cpu 2 timeout 5m|{os.environ['HOME']}|{arguments}"
    scancel = tmp_path / "work dir" / "scancel.sh"
    assert scancel.read_text().splitlines()[1].split() == ["scancel", *sorted(record.job for record in records)]
    assert scancel.stat().st_mode & stat.S_IXUSR


CHOOSING = """#!/bin/bash
#SBATCH --comment=chosen
export PATH="{bin}:$PATH"
bash -c "timeout 60 $CMD"
"""


def test_a_template_chooses_the_python_of_its_run(tmp_path: Path) -> None:
    # Given a template that activates another environment
    (tmp_path / "an env").mkdir()
    (tmp_path / "an env" / "python").symlink_to(sys.executable)
    (tmp_path / "template.sh").write_text(CHOOSING.format(bin=tmp_path / "an env"))
    code = "import sys; print(sys.executable)"
    run = RunSpec(name="r", folder=str(tmp_path / "runs" / "r"), command=("python", "-c", code))
    # When
    outcome = sweep(tmp_path, [run], slurm=slurm(template=tmp_path / "template.sh"))
    # Then
    assert states(outcome) == {"r": "SUCCEEDED"}
    assert stdout(run) == f"{tmp_path / 'an env' / 'python'}\n"
    (script,) = (tmp_path / "sweep" / "jobs").glob("sbatch_*.sh")
    assert script.read_text().splitlines()[:2] == ["#!/bin/bash", "#SBATCH --comment=chosen"]


def test_a_run_in_a_template_saves_its_work_near_the_limit_and_goes_on_under_the_same_id(tmp_path: Path) -> None:
    # Given a template whose shells wait for the run
    (tmp_path / "template.sh").write_text(CHOOSING.format(bin="/usr/bin"))
    run = shell_run(tmp_path, "long", SAVING)
    with Follower(tmp_path, [run], slurm(template=tmp_path / "template.sh")) as follow:
        until((Path(run.folder) / "begun").exists, 40, "the run to begin")
        (before,) = read_records(tmp_path / "sweep").values()
        # When
        near_its_limit(before, Path(run.folder))
        outcome = follow()
    # Then
    (record,) = outcome.records
    assert (str(record.state), record.attempt, record.job) == ("SUCCEEDED", 2, before.job), record
    assert stdout(run) == "goes on\n"


def test_a_refused_submission_is_that_runs_failure_and_the_others_are_submitted(tmp_path: Path, monkeypatch) -> None:
    # given an sbatch that refuses the second job, as one does whose user has reached a limit
    real = subprocess.run(["which", "sbatch"], check=True, capture_output=True, text=True).stdout.strip()
    tools = tmp_path / "bin"
    tools.mkdir()
    sbatch = tools / "sbatch"
    sbatch.write_text(
        f"""#!/bin/sh
echo x >> {tmp_path}/calls
test "$(wc -l < {tmp_path}/calls)" = 2 && echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2 && exit 1
exec {real} "$@"
"""
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    runs = [shell_run(tmp_path, f"r{i}", "true", params={"i": i}) for i in range(3)]
    outcome = sweep(tmp_path, runs, slurm=slurm(array=False))
    assert states(outcome) == {"r0": "SUCCEEDED", "r1": "FAILED", "r2": "SUCCEEDED"}
    assert "QOSMaxSubmitJobPerUserLimit" in outcome.records[1].cause
    # and it is submitted when asked for
    outcome = sweep(tmp_path, runs, slurm=slurm(array=False), rerun="failed")
    assert outcome.exit_code == 0


@pytest.mark.parametrize("extra", [(), ("--no-requeue",)], ids=["requeued-by-slurm", "submitted-again-by-the-launcher"])
def test_a_run_whose_node_fails_is_run_again(tmp_path: Path, extra: tuple[str, ...]) -> None:
    script = "test -e $KOUROU_RUN_DIR/begun && exit 0; hostname; touch $KOUROU_RUN_DIR/begun; sleep 60"
    run = shell_run(tmp_path, "r", script)
    engine = SweepOptions(retry=Retry(times={"node": 1}))
    with Follower(tmp_path, [run], slurm(extra=extra), engine) as follow:
        until((Path(run.folder) / "begun").exists, 40, "the run to begin")
        nodes = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%N"], check=True, capture_output=True, text=True)
        node = nodes.stdout.strip()
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
        # a node that still answers may have come back by itself
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False, capture_output=True)
        outcome = follow()
    (record,) = outcome.records
    assert (str(record.state), record.attempt) == ("SUCCEEDED", 2), record


def test_cancel_from_another_shell_and_re_attaching(tmp_path: Path) -> None:
    runs = [
        shell_run(tmp_path, "long", "sleep 60"),
        shell_run(tmp_path, "short", f"while ! test -e {tmp_path}/go; do sleep 0.05; done"),
    ]
    outcome = sweep(tmp_path, runs, wait=False)
    assert states(outcome) == {"long": "QUEUED", "short": "QUEUED"}
    assert outcome.exit_code == 0
    command = [sys.executable, "-m", "kourou.cli", "sweep", "cancel", str(tmp_path / "sweep"), "long"]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "go").touch()
    outcome = sweep(tmp_path, runs)
    assert states(outcome) == {"long": "CANCELLED", "short": "SUCCEEDED"}
    assert [record.attempt for record in outcome.records] == [1, 1]
    until(lambda: not subprocess.run(["squeue", "-h"], check=True, capture_output=True).stdout, 60, "an empty queue")


def test_a_function_runs_in_a_job(tmp_path: Path) -> None:
    def train(x):
        experiments.log(1, score=x)

    run = RunSpec(name="f", folder=str(tmp_path / "runs" / "f"), function=train, params={"x": 4})
    assert sweep(tmp_path, [run]).exit_code == 0
    assert json.loads((Path(run.folder) / "metrics.jsonl").read_text())["score"] == 4


def test_a_dry_run_does_nothing_and_says_what_the_launch_will_do(tmp_path: Path) -> None:
    runs = [shell_run(tmp_path, f"r{i}", "true", params={"i": i}) for i in range(3)]
    options = slurm(max_array_size=2, time="5", mem="100M", lines=("export LINE=1",), extra=("--comment=it is",))
    planned = plan_slurm_sweep(runs, tmp_path / "sweep", slurm=options)
    assert not (tmp_path / "sweep").exists()
    outcome = sweep(tmp_path, runs, slurm=options)
    assert outcome.exit_code == 0
    scripts = sorted((tmp_path / "sweep" / "jobs").glob("sweep-*.sh"))
    launch = scripts[0].name.rpartition("-")[0]
    assert [script.read_text() for script in scripts] == [each.script.replace("LAUNCH", launch) for each in planned]
    assert planned[1].command[-3:] == (
        "--array=0-0",
        f"--output={tmp_path}/sweep/jobs/%A_%a.out",
        f"{tmp_path}/sweep/jobs/LAUNCH-2.sh",
    )
    assert {"--time=5", "--mem=100M", "--comment=it is"} <= set(planned[0].command)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("in_a_template", [False, True])
def test_slurm_itself_gives_the_signal_before_the_limit(tmp_path: Path, in_a_template: bool) -> None:
    template = tmp_path / "template.sh" if in_a_template else None
    if template is not None:
        template.write_text(TEMPLATE)
    run = shell_run(tmp_path, "long", SAVING)
    with Follower(tmp_path, [run], slurm(signal_s=100, template=template)) as follow:
        until((Path(run.folder) / "begun").exists, 60, "the run to begin")
        (record,) = read_records(tmp_path / "sweep").values()
        reach_the_limit(record.job)
        outcome = follow()
    (record,) = outcome.records
    assert (str(record.state), record.attempt) == ("SUCCEEDED", 2)


@NEEDS_HYDRA
def test_jobs_of_hydra(tmp_path: Path) -> None:
    ended = multirun(tmp_path, "+x=1,2", "hydra.launcher.backend=slurm", "hydra.launcher.slurm.poll_s=0.1")
    assert ended.returncode == 0, ended.stderr
    records = list(read_records(tmp_path / "m").values())
    assert {(record.name, str(record.state)) for record in records} == {
        ("0: +x=1", "SUCCEEDED"),
        ("1: +x=2", "SUCCEEDED"),
    }
    assert all(record.job for record in records)
    assert "x is 2" in (tmp_path / "m" / "1" / "stdout.log").read_text()


@pytest.mark.long
def test_runs_share_the_hosts_and_gpus_of_one_allocation(tmp_path: Path) -> None:
    # Given more runs than there is room for at once
    script = "echo $SLURM_JOB_ID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    runs = [shell_run(tmp_path, f"r{i}", script, params={"i": i}) for i in range(8)]
    share = Share(parallel=4, gpus_per_run=2)
    # When
    outcome = run_sweep(runs, tmp_path / "sweep", on=lp.Slurm(nodes=2), share=share)
    # Then all were in one job, on both hosts, each with GPUs of its own
    assert set(states(outcome).values()) == {"SUCCEEDED"}
    jobs, hosts, gpus = (set(told) for told in zip(*(stdout(run).split() for run in runs), strict=True))
    assert len(jobs) == 1
    assert hosts == {record.host for record in outcome.records} == {"n1", "n2"}
    assert gpus == {"0,1", "2,3"}
    # and nothing is left of it
    squeue = ["squeue", "-h", "-j", *jobs]
    until(lambda: not subprocess.run(squeue, check=False, capture_output=True).stdout, 60, "the end of the job")
