"""``kourou sweep``."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from cli.commands import kourou, start
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

SWEEP = """
name: small
train_dir: out
experiments:
  - name: base
    command: [sh, -c, %s, sh]
    params: {grid: {x: [1, 2, 3]}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(script: str) -> None:
    Path("sweep.yaml").write_text(SWEEP % json.dumps(script))


LOGGING = """echo "said $1"
echo '{"step": 1, "time": 1, "score": 1}' > $KOUROU_RUN_DIR/metrics.jsonl
echo '{"step": 2, "time": 2, "score": 3}' >> $KOUROU_RUN_DIR/metrics.jsonl"""


def test_schema_is_json(here: Path) -> None:
    assert kourou("sweep", "schema").json["properties"]["experiments"]["type"] == "array"


def test_run_status_logs_results_and_plot(here: Path) -> None:
    write(LOGGING)
    outcome = kourou("sweep", "run", "sweep.yaml", "-j", "2", "--json")
    assert outcome.code == 0
    assert outcome.json["states"] == {"SUCCEEDED": 3}
    assert "[3/3]" in outcome.err
    assert "small: 3 succeeded" in outcome.err
    # when looked at from the folder above, without saying which sweep
    outcome = kourou("sweep", "status", "--json")
    assert (outcome.json["done"], outcome.json["total"], outcome.json["active"]) == (3, 3, False)
    assert kourou("ps", "--json").json == []
    (listed,) = kourou("ps", "--all", "--json").json
    assert (listed["run"], listed["launch_type"], listed["state"]) == ("out/small", "sweep", "finished")
    assert "out/small" in kourou("ps", "--all").out
    shown = kourou("sweep", "status", "out/small").out
    assert "3/3 done" in shown
    assert kourou("sweep", "status", "sweep.yaml").out == shown  # the file that `sweep run` was given
    assert "00_base_x_1" in shown
    assert kourou("sweep", "logs", "out/small", "01_base_x_2").out == "said --x=2\n"
    assert "00_base_x_1 │ said --x=1" in kourou("sweep", "logs", "out/small", "-n", "1").out
    assert kourou("sweep", "logs", "out/small", "0[12]_*", "-n", "1").out.count("│ said") == 2
    assert "nothing to cancel" in kourou("sweep", "cancel", "out/small", "01_*").err
    assert "nothing is left to run" in kourou("sweep", "run", "sweep.yaml", "--dry-run").err
    assert [row["score"] for row in kourou("sweep", "results", "--runs", "--json").json] == [3, 3, 3]
    assert [row["params"] for row in kourou("sweep", "results", "--json").json] == [{"x": x} for x in (1, 2, 3)]
    assert kourou("sweep", "results", "-o", "rows.csv").code == 0
    assert len(Path("rows.csv").read_text().splitlines()) == 7
    with start("sweep", "plot", "-m", "score") as process:  # matplotlib keeps its fonts' files open
        assert process.wait(WAIT_S) == 0
    assert Path("out/small/plot.png").stat().st_size > 10_000
    assert "x=3" in Path("out/small/plot.html").read_text()


def test_a_sweep_in_a_folder_with_an_odd_name_goes_on_there_and_not_where_it_was_moved_from(here: Path) -> None:
    write('test "$1" != --x=2')
    assert kourou("sweep", "run", "sweep.yaml", "--train-dir", "it's out").code == 1
    # The command that is told can be pasted
    said = kourou("sweep", "retry", "it's out/small").err
    command = shlex.split(said.rpartition("which is: ")[2])
    assert command == ["kourou", "sweep", "run", str(here / "it's out" / "small")]
    outcome = kourou(*command[1:], "--json")
    assert [run["attempt"] for run in outcome.json["runs"]] == [1, 2, 1]
    # One that was moved does not begin anew where it was
    Path("it's out").rename("archive")
    moved = kourou("sweep", "run", "archive/small")
    assert moved.code == 2
    assert "was moved, or what made it was changed" in moved.err
    assert not Path("it's out").exists()
    kept = kourou("sweep", "run", "archive/small", "--train-dir", "archive", "--json")
    assert [run["attempt"] for run in kept.json["runs"]] == [1, 2, 1]


def test_failures_give_1_and_are_retried_from_the_folder_alone(here: Path) -> None:
    write('test "$1" != --x=2 || test -e mended || exit 4')
    outcome = kourou("sweep", "run", "sweep.yaml", "--retries", "exit=1", "--backoff", "0.01")
    assert outcome.code == 1
    assert "01_base_x_2 exited with 4; logs: " in outcome.err
    assert "--rerun failed runs them again" in outcome.err
    assert "(attempt 2)" in outcome.err
    assert kourou("sweep", "run", "out/small").code == 1
    Path("mended").touch()
    assert "01_base_x_2 will be run again by the next launch" in kourou("sweep", "retry", "out/small").err
    outcome = kourou("sweep", "run", "out/small", "--json")
    assert outcome.code == 0
    assert [run["attempt"] for run in outcome.json["runs"]] == [1, 3, 1]
    assert "[3/3] 01_base_x_2 (attempt 3): SUCCEEDED" in outcome.err
    assert "nothing to retry" in kourou("sweep", "retry", "out/small").err


def test_a_dry_run_prints_what_a_launch_starts_and_leaves_nothing(here: Path) -> None:
    write('env | grep -E "^(KOUROU_RUN|KOUROU_SWEEP|CUDA|OMP)" | sort; pwd; echo "$@"')
    outcome = kourou("sweep", "run", "sweep.yaml", "-j", "1", "--dry-run", "--json")
    assert outcome.code == 0
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]
    planned = outcome.json
    text = kourou("sweep", "run", "sweep.yaml", "-j", "1", "--dry-run").out
    # when each printed line is executed by a shell, and the sweep is run
    printed = [
        subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True).stdout
        for line in text.replace("\\\n", "").splitlines()
        if line.startswith("cd ")
    ]
    assert kourou("sweep", "run", "sweep.yaml", "-j", "1").code == 0
    for start_, shown in zip(planned, printed, strict=True):
        folder = Path(start_["folder"])
        assert (folder / "stdout.log").read_text() == shown
        told = json.loads((folder / "run.json").read_text())
        assert told["argv"] == start_["argv"]
        assert {name: start_["env"][name] for name in told["env"]} == told["env"]
    assert kourou("sweep", "run", "sweep.yaml", "--dry-run", "--json").json == []


def test_a_sweep_may_have_an_allocation_of_its_own(here: Path) -> None:
    # Given a file that says so
    write("true")
    with Path("sweep.yaml").open("a") as file:
        file.write("on: {engine: slurm, nodes: 2, partition: gpu}\n")
    # Then two runs at once are planned, one on each host; and the command line has the last word
    assert [run["slot"] for run in kourou("sweep", "run", "sweep.yaml", "--dry-run", "--json").json] == [0, 1, 0]
    words = ("sweep", "run", "sweep.yaml", "--dry-run", "--json")
    assert [run["slot"] for run in kourou(*words, "--on", "slurm", "-o", "nodes=1").json] == [0, 0, 0]
    # and mistakes are told before anything starts
    outcome = kourou("sweep", "run", "sweep.yaml", "--on", "slurm", "--backend", "slurm")
    assert outcome.code == 2
    assert "--on is in place of --backend slurm" in outcome.err
    Path("sweep.yaml").write_text(Path("sweep.yaml").read_text().replace("nodes: 2", "nods: 2"))
    outcome = kourou("sweep", "run", "sweep.yaml")
    assert outcome.code == 2
    assert "sweep.yaml: on:" in outcome.err
    assert "nods" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing.yaml"], "nothing.yaml"),
        (["run", "no.such.module"], "there is no module 'no.such.module'"),
        (["run", "sweep.yaml", "--rerun", "some"], "rerun is one of lost, failed, all"),
        (["run", "sweep.yaml", "--backend", "magic"], "--backend is one of processes, slurm, template"),
        (["run", "sweep.yaml", "--retries", "often"], "--retries is a number"),
        (["run", "sweep.yaml", "--gpus-per-run", "900"], "900 GPUs are asked for"),
        (["run", "sweep.yaml", "--memory", "900T"], "of memory each need 921600.0 GiB, but there are"),
        (["run", "sweep.yaml", "--memory", "lots"], "'lots' is no size: write a number and one of K, M, G, T"),
        (["run", "sweep.yaml", "--gpu-memory", "1G"], "give runs_per_gpu or gpus_per_run"),
        (["status", "."], "there is no sweep in"),
    ],
)
def test_a_mistake_gives_2_and_starts_nothing(here: Path, words: list[str], message: str) -> None:
    write("true")
    outcome = kourou("sweep", *words)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert not Path("out").exists()


def test_what_jobs_ask_of_slurm_is_on_the_command_line(here: Path) -> None:
    write("true")
    words = ["--memory", "16G", "--time", "1:00", "--gpus-per-run", "2", "--cpus-per-run", "3", "--account", "lab"]
    words += ["--line", "module load cuda", "--sbatch-arg=--exclude=n7", "--requeues", "0", "--no-array"]
    planned = kourou("sweep", "run", "sweep.yaml", "--backend", "slurm", *words, "--dry-run", "--json").json
    asked = {"--mem=16G", "--time=1:00", "--gres=gpu:2", "--cpus-per-task=3", "--account=lab", "--exclude=n7"}
    assert [asked - set(job["sbatch"]) for job in planned] == [set()] * 3
    assert all("module load cuda\ntrap '' USR1\nexec " in job["text"] for job in planned)
    assert not Path("out").exists()


def test_ctrl_c_gives_130_and_another_shell_may_cancel(here: Path) -> None:
    write("trap 'exit 3' INT; touch $KOUROU_RUN_DIR/begun; while true; do sleep 0.02; done")

    def begun() -> int:
        return len(list(here.rglob("begun")))

    with start("sweep", "run", "sweep.yaml", "-j", "2") as process:
        until(lambda: begun() == 2, WAIT_S, "two runs")
        status = kourou("sweep", "status", "--json").json
        assert (status["active"], status["states"]) == (True, {"RUNNING": 2, "PENDING": 1})
        assert status["launcher"] == f"pid {process.pid} on {os.uname().nodename}"
        assert kourou("sweep", "cancel", "out/small", "00_base_x_1").code == 0
        until(lambda: begun() == 3, WAIT_S, "the third run, in the place of the cancelled one")
        assert "is being run by pid" in kourou("sweep", "run", "sweep.yaml").err
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    states = [run["state"] for run in kourou("sweep", "status", "--json").json["runs"]]
    assert states == ["CANCELLED", "INTERRUPTED", "INTERRUPTED"]


def test_a_template_hands_every_run_to_another_program(here: Path) -> None:
    tool = here / "tool"
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> calls; echo id\n')
    tool.chmod(0o755)
    template = here / "job.template"
    template.write_text(
        './tool run --name "{{ name }}" \\\n  --commandline "cd /work; {{ experiment_cmd }}" --image "a  b"\n'
    )
    write("""echo "it's $HOME" """)
    words = ["run", "sweep.yaml", "--backend", "template", "--template", "job.template"]
    planned = kourou("sweep", *words, "--dry-run", "--json").json
    assert not Path("calls").exists()
    assert kourou("sweep", *words).code == 0
    called = Path("calls").read_text().splitlines()
    assert called == [word for each in planned for word in each["argv"][1:]]
    assert called[-1] == "a  b"
    # and the command is quoted for the shell that will execute it
    place = called.index("--commandline") + 1
    done = subprocess.run(
        ["sh", "-c", called[place].replace("cd /work", "cd /")], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"it's {os.environ['HOME']}\n"
    assert kourou("sweep", *words).code == 0
    assert len(Path("calls").read_text().splitlines()) == len(called)
    # when its folders are elsewhere, the journal is here
    assert kourou("sweep", *words, "--train-dir", "/dev/null/there", "--sweep-dir", "mine").code == 0
    assert kourou("sweep", "status", "mine", "--json").json["runs"][0]["folder"].startswith("/dev/null/there/small/")
    # and it is not run here by mistake
    outcome = kourou("sweep", "run", "out/small", "--rerun", "all")
    assert (outcome.code, "say --backend template with its options" in outcome.err) == (2, True)


def test_results_are_a_row_for_each_setting_the_best_first(here: Path) -> None:
    # Given runs of two settings, with two seeds each, of which the second setting is better
    script = 'echo "{\\"step\\": 1, \\"time\\": 1, \\"score\\": $X$REPEAT}" > $KOUROU_RUN_DIR/metrics.jsonl'
    settings = SWEEP.replace("grid: {x: [1, 2, 3]}", "grid: {X: [1, 2]}") + "arguments: environment\nrepeats: 2\n"
    script = "REPEAT=${KOUROU_RUN_NAME#*_rep}; " + script
    Path("sweep.yaml").write_text(settings % json.dumps(script))
    assert kourou("sweep", "run", "sweep.yaml", "-j", "2").code == 0
    # When the results are asked for, Then parameters have columns and metrics a mean with an interval
    outcome = kourou("sweep", "results", "--sort", "score")
    shown = [line.split() for line in outcome.out.splitlines() if "±" in line]
    assert [row[:3] for row in shown] == [["2", "2", "20.5"], ["1", "2", "10.5"]]
    assert "best by score: 01_base_X_2, X=2, 20.5 ± 6.4" in outcome.err
    (first, _) = kourou("sweep", "results", "--sort", "score", "--lowest-first", "--json").json
    assert (first["params"], first["runs"], first["metrics"]["score"]["mean"]) == ({"X": 1}, 2, 10.5)
    refused = kourou("sweep", "results", "--sort", "scor")
    assert refused.code == 1
    assert "no run has logged 'scor' as a number; there are score" in refused.err
