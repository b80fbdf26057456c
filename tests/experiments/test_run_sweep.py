"""Sweeps on this host, with real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kourou as lp
from experiments.sweeping import QUICK, by_name, function_run, happened, python_run, shell_run, states, sweep
from kourou import errors
from kourou.experiments import DescriptionError, Experiment, ParamList, RunDescription, RunSpec, SweepBusy, log
from kourou.experiments.journal.journal import SweepLock
from kourou.experiments.journal.requests import ask
from kourou.experiments.sweep.dry_run import plan_sweep
from kourou.experiments.sweep.launch import run_sweep
from kourou.experiments.sweep.reporting import summary
from kourou.experiments.sweep.retries import Retry
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share
from kourou.runtime.files.rotation import generations
from kourou.runtime.model.inventory import Inventory
from optional import pytest
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")


def options(**changes):
    return dataclasses.replace(QUICK, **changes)


def test_all_runs_are_run_and_their_folders_tell_of_them(tmp_path: Path) -> None:
    script = 'echo "out $X $KOUROU_SEED"; echo err >&2; pwd; echo "$KOUROU_RUN_ATTEMPT $KOUROU_RUN_NAME"'
    runs = [shell_run(tmp_path, f"r{i}", script, params={"i": i}, seed=7, env={"X": str(i)}) for i in range(3)]
    outcome = sweep(tmp_path, runs)
    assert outcome.exit_code == 0
    assert states(outcome) == dict.fromkeys(["r0", "r1", "r2"], "SUCCEEDED")
    folder = Path(runs[1].folder)
    assert (folder / "stdout.log").read_text().splitlines() == ["out 1 7", str(Path.cwd()), "1 r1"]
    assert (folder / "stderr.log").read_text() == "err\n"
    told = json.loads((folder / "run.json").read_text())
    assert (told["name"], told["params"], told["seed"], told["argv"][:2]) == ("r1", {"i": 1}, 7, ["sh", "-c"])
    assert told["env"]["X"] == "1"
    assert told["host"] == os.uname().nodename
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    ended = json.loads((folder / "exit.json").read_text())
    assert (ended["state"], ended["code"], ended["attempt"]) == ("SUCCEEDED", 0, 1)
    assert ended["duration_s"] > 0


def test_runs_logs_are_rotated_as_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a run that prints much, and once more when it is tried again
    monkeypatch.setenv("KOUROU_LOG_MAX_BYTES", "1000")
    monkeypatch.setenv("KOUROU_LOG_BACKUP_COUNT", "2")
    run = shell_run(tmp_path, "r", "seq $((KOUROU_RUN_ATTEMPT * 1000)); seq 5 >&2; exit $((2 - KOUROU_RUN_ATTEMPT))")
    # When
    outcome = sweep(tmp_path, [run], engine=SweepOptions(retry=Retry(times={"exit": 1}, backoff_s=0)))
    # Then the last lines are there, in whole logs
    assert outcome.exit_code == 0, outcome
    logs = list(generations(Path(run.folder) / "stdout.log").values())
    assert len(logs) == 3
    assert all(900 < log.stat().st_size <= 1000 for log in logs[1:])
    kept = "".join(log.read_text() for log in reversed(logs)).split()
    assert kept == [str(number) for number in range(int(kept[0]), 2001)]
    assert (Path(run.folder) / "stderr.log").read_text().split() == ["1", "2", "3", "4", "5"] * 2


def test_a_size_of_logs_that_is_none_is_refused_before_a_sweep_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOUROU_LOG_MAX_BYTES", "1 GB")
    with pytest.raises(errors.PlanError, match="KOUROU_LOG_MAX_BYTES='1 GB': give a whole number"):
        run_sweep([shell_run(tmp_path, "r", "true")], tmp_path / "sweep")
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_begun_keeps_name_and_folder_where_its_description_counts_it_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def described(*values: float) -> tuple[RunSpec, ...]:
        script = ["sh", "-c", 'echo "$0 $1"; test "$0" != --x=2.0']
        return RunDescription("s", [Experiment("e", script, ParamList([{"x": x} for x in values]))]).generate_runs(
            "runs"
        )

    def told(name: str) -> str:
        return (tmp_path / "runs/s/e_" / name / "stdout.log").read_text()

    monkeypatch.chdir(tmp_path)
    run_sweep(described(1.0, 2.0), "runs/s")
    again = run_sweep(described(0.5, 1.0, 2.0), "runs/s", rerun="failed")
    planned = plan_sweep(described(0.5, 1.0, 2.0), "runs/s", rerun="all")
    names = ["00_e_x_0.5", "00_e_x_1.0", "01_e_x_2.0"]
    assert [record.name for record in again.records] == [start.name for start in planned] == names
    assert sorted(path.name for path in (tmp_path / "runs/s/e_").iterdir()) == names
    assert told("01_e_x_2.0") == "--x=2.0 --experiment=01_e_x_2.0\n" * 2
    assert [Path(record.folder).name for record in again.records] == names


def test_a_new_run_does_not_get_the_folder_of_one_that_has_begun(tmp_path: Path) -> None:
    def described(*values: int) -> tuple[RunSpec, ...]:
        experiment = Experiment("e", ["true"], ParamList([{"x": x} for x in values]))
        return RunDescription("s", [experiment], customize_experiment_name=False).generate_runs(str(tmp_path))

    run_sweep(described(1), tmp_path / "s")
    with pytest.raises(DescriptionError, match=r"run '00_e' with {'x': 0} .* in which the run with {'x': 1} has begun"):
        run_sweep(described(0, 1), tmp_path / "s")
    assert run_sweep(described(1, 0), tmp_path / "s").exit_code == 0


def test_a_sweep_with_another_suffix_is_run_again(tmp_path: Path) -> None:
    description = RunDescription("s", [Experiment("e", "true")])
    run_sweep(description.generate_runs(str(tmp_path)), tmp_path / "s")
    description.experiment_suffix = "fixed"
    run_sweep(description.generate_runs(str(tmp_path)), tmp_path / "s")
    assert (tmp_path / "s/e_fixed/00_e/exit.json").exists()


def test_a_sweep_without_slots_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(errors.PlanError, match="no slot"):
        run_sweep([shell_run(tmp_path, "r", "true")], tmp_path / "sweep", slots=())
    assert not (tmp_path / "sweep").exists()


def test_a_failure_is_told_with_what_the_run_said_last(tmp_path: Path) -> None:
    outcome = sweep(tmp_path, [shell_run(tmp_path, "r", "echo a; echo 'Error: no such env' >&2; echo >&2; exit 3")])
    assert "r exited with 3: Error: no such env; logs: " in summary(outcome)


def test_hostile_values_arrive_as_they_are(tmp_path: Path) -> None:
    words = [
        "a b",
        "q\"uo'te",
        "$HOME `x`",
        "ünï\N{ROCKET}",
        "*",
        "",
    ]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    run = python_run(tmp_path, "with space", code, *words, env={"ODD": 'x "y" $z'})
    assert sweep(tmp_path, [run]).exit_code == 0
    assert json.loads((Path(run.folder) / "stdout.log").read_text()) == words


def test_functions_are_called_with_their_parameters(tmp_path: Path) -> None:
    def train(lr, steps):
        for step in range(steps):
            log(step, loss=lr * step)
        print("done", lr)

    runs = [function_run(tmp_path, f"r{i}", train, lr=0.1 * i, steps=2) for i in range(2)]
    assert sweep(tmp_path, runs).exit_code == 0
    assert (Path(runs[1].folder) / "stdout.log").read_text() == "done 0.1\n"
    assert len((Path(runs[1].folder) / "metrics.jsonl").read_text().splitlines()) == 2
    assert not (Path(runs[1].folder) / "payload.pkl").exists()


def draw_from_numpys_generator(index: int) -> None:
    import numpy as np

    drawn = np.random.rand()  # noqa: NPY002 - the global generator is what is tested
    Path(os.environ["KOUROU_RUN_DIR"], f"drawn{index}").write_text(repr(drawn))


def test_functions_that_nobody_seeds_draw_numbers_of_their_own_though_numpy_is_imported_once(tmp_path: Path) -> None:
    runs = [function_run(tmp_path, f"r{i}", draw_from_numpys_generator, index=i) for i in range(3)]
    assert sweep(tmp_path, runs, engine=options(preload=("numpy.random",))).exit_code == 0
    assert len({Path(run.folder, f"drawn{i}").read_text() for i, run in enumerate(runs)}) == 3


def test_a_program_is_a_run_made_already_or_by_a_function(tmp_path: Path) -> None:
    class Counter:
        def add(self, amount):
            return amount + 1

    def work(counter):
        print("counted", counter.add(4))
        lp.stop()

    def make(label="counter"):
        program = lp.Program("counting")
        counter = program.add_node(lp.CourierNode(Counter), label=label)
        program.add_node(lp.PyNode(work, counter), label="work")
        return program

    runs = [
        RunSpec(name="made", folder=str(tmp_path / "made"), program=make()),
        RunSpec(name="maker", folder=str(tmp_path / "maker"), program=make, params={"label": "other"}),
    ]
    outcome = sweep(tmp_path, runs)
    assert states(outcome) == {"made": "SUCCEEDED", "maker": "SUCCEEDED"}, outcome.records
    for run in runs:
        assert "counted 5" in (Path(run.folder) / "stdout.log").read_text()


def test_a_run_whose_program_a_signal_ended_after_its_function_has_not_succeeded(tmp_path: Path) -> None:
    # Given a function that returns while its program runs, so that the run waits for that
    def work(launcher, waiting):
        while not waiting.exists():
            time.sleep(0.01)
        # When SIGTERM comes to the run's process, as from who preempts it
        os.kill(launcher, signal.SIGTERM)
        lp.wait_for_stop()

    def function(waiting):
        program = lp.Program("left")
        program.add_node(lp.PyNode(work, os.getpid(), waiting), label="work")
        run = lp.launch(program, "local_mp")
        finish = run.finish_at_exit
        run.finish_at_exit = lambda: [waiting.touch(), finish()][1]  # type: ignore[method-assign]  # tells when

    # Then it ends as a script does
    run = RunSpec(
        name="left", folder=str(tmp_path / "left"), function=function, params={"waiting": tmp_path / "waiting"}
    )
    [record] = sweep(tmp_path, [run]).records
    assert (str(record.state), record.code) == ("FAILED", 143)


def test_what_cannot_be_pickled_is_named_before_anything_starts(tmp_path: Path) -> None:
    lock = threading.Lock()
    runs = [function_run(tmp_path, "r", lock.acquire)]
    with pytest.raises(errors.PlanError, match=r"run r: function cannot be pickled: TypeError: .*lock"):
        sweep(tmp_path, runs)
    assert not list(tmp_path.rglob("*.log"))


def test_parameters_that_a_function_does_not_take_are_told_before_anything_starts(tmp_path: Path) -> None:
    draw = draw_from_numpys_generator
    runs = [function_run(tmp_path, "a", draw, index=1, no=2), function_run(tmp_path, "b", draw)]
    with pytest.raises(errors.PlanError) as caught:
        sweep(tmp_path, runs)
    told = [
        problem.partition(" is called with other arguments than it takes: ")[::2] for problem in caught.value.problems
    ]
    assert told == [
        ("run a: draw_from_numpys_generator", "got an unexpected keyword argument 'no'"),
        ("run b: draw_from_numpys_generator", "missing a required argument: 'index'"),
    ]
    assert not list(tmp_path.rglob("*.log"))


def test_failures_are_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    runs = [
        shell_run(tmp_path, "bad", "echo before; echo oh no >&2; exit 3"),
        shell_run(tmp_path, "killed", "kill -9 $$"),
        RunSpec(name="missing", folder=str(tmp_path / "missing"), command=("/no/such/program",)),
        RunSpec(name="nowhere", folder=str(tmp_path / "nowhere"), command=("no-such-program",)),
        function_run(tmp_path, "raises", lambda: 1 / 0),
        shell_run(tmp_path, "good", "true"),
    ]
    outcome = sweep(tmp_path, runs)
    assert outcome.exit_code == 1
    records = by_name(outcome)
    assert [str(record.state) for record in outcome.records] == ["FAILED"] * 5 + ["SUCCEEDED"]
    assert (records["bad"].code, records["bad"].cause) == (3, "exited with 3")
    assert set(records["bad"].last_lines) == {"before", "oh no"}
    assert (records["killed"].signal, records["killed"].cause) == ("SIGKILL", "was killed by SIGKILL")
    assert "No such file" in records["missing"].cause
    assert "No such file or directory: 'no-such-program'" in records["nowhere"].cause
    assert "ZeroDivisionError: division by zero" in records["raises"].last_lines
    assert not outcome.stopped


def test_runs_at_once_are_never_more_than_asked_for(tmp_path: Path) -> None:
    # given runs that each wait until they have seen another one run
    marks = tmp_path / "marks"
    marks.mkdir()
    script = f"""touch {marks}/$$; n=$(ls {marks} | wc -l); echo $n; sleep 0.05; rm {marks}/$$"""
    runs = [shell_run(tmp_path, f"r{i}", script, params={"i": i}) for i in range(9)]
    assert sweep(tmp_path, runs, parallel=3).exit_code == 0
    seen = [int((Path(run.folder) / "stdout.log").read_text()) for run in runs]
    assert max(seen) <= 3
    assert max(seen) > 1


def test_each_run_gets_its_slots_gpus_and_cpus(tmp_path: Path) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], *sorted(os.sched_getaffinity(0)))"
    cpus = sorted(os.sched_getaffinity(0))[:1]
    runs = [python_run(tmp_path, f"r{i}", code, params={"i": i}) for i in range(2)]
    runs.append(python_run(tmp_path, "own", code, env={"CUDA_VISIBLE_DEVICES": "mine"}))
    inventory = Inventory(cpus=(*cpus, *(cpu + 1000 for cpu in cpus)), gpus=("2", "3"))
    share = Share(gpus_per_run=1, cpus_per_run=1, parallel=1)
    outcome = run_sweep(runs, tmp_path / "sweep", share=share, inventory=inventory)
    assert outcome.exit_code == 0
    printed = [(Path(run.folder) / "stdout.log").read_text().split() for run in runs]
    assert printed == [["2", str(cpus[0])], ["2", str(cpus[0])], ["mine", str(cpus[0])]]
    assert outcome.records[0].gpus == ("2",)


def test_threads_are_told_their_share_unless_the_user_said_more(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run = shell_run(tmp_path, "r", "echo $OMP_NUM_THREADS $MKL_NUM_THREADS")
    run_sweep([run], tmp_path / "sweep", share=Share(parallel=2), inventory=Inventory(cpus=tuple(range(8))))
    assert (Path(run.folder) / "stdout.log").read_text() == "4 5\n"


def test_a_finished_run_is_skipped_and_four_more_repeats_are_four_runs(tmp_path: Path) -> None:
    def repeats(count):
        return [shell_run(tmp_path, f"r{i}", "echo run", setting="s", repeat=i, seed=i) for i in range(count)]

    sweep(tmp_path, repeats(2))
    outcome = sweep(tmp_path, repeats(4))
    assert [record.attempt for record in outcome.records] == [1, 1, 1, 1]
    assert [kind for kind, _ in happened(tmp_path)].count("started") == 4


def test_rerun_failed_and_all(tmp_path: Path) -> None:
    runs = [shell_run(tmp_path, "bad", f"test -e {tmp_path}/mended"), shell_run(tmp_path, "good", "true")]
    assert sweep(tmp_path, runs).exit_code == 1
    assert sweep(tmp_path, runs).exit_code == 1
    (tmp_path / "mended").touch()
    outcome = sweep(tmp_path, runs, rerun="failed")
    assert [record.attempt for record in outcome.records] == [2, 1]
    assert outcome.exit_code == 0
    outcome = sweep(tmp_path, runs, rerun="all")
    assert [record.attempt for record in outcome.records] == [3, 2]
    with pytest.raises(errors.PlanError, match="rerun is one of lost, failed, all"):
        sweep(tmp_path, runs, rerun="some")


def test_a_failure_is_retried_after_its_back_off(tmp_path: Path) -> None:
    script = f'echo $KOUROU_RUN_ATTEMPT >> {tmp_path}/tries; test "$(wc -l < {tmp_path}/tries)" = 3'
    engine = options(retry=Retry(times={"exit": 2}, backoff_s=0.05))
    outcome = sweep(tmp_path, [shell_run(tmp_path, "r", script)], engine=engine)
    assert states(outcome) == {"r": "SUCCEEDED"}
    assert outcome.records[0].attempt == 3
    assert (tmp_path / "tries").read_text().split() == ["1", "2", "3"]


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    run = shell_run(tmp_path, "slow", "trap 'echo saved; exit 0' TERM; while true; do sleep 0.02; done")
    outcome = sweep(tmp_path, [run], engine=options(time_limit_s=1.0))
    assert states(outcome) == {"slow": "TIMEOUT"}
    assert (Path(run.folder) / "stdout.log").read_text() == "saved\n"
    assert outcome.exit_code == 1


def test_fail_fast_ends_the_rest(tmp_path: Path) -> None:
    runs = [
        shell_run(tmp_path, "waits", "exec sleep 60"),
        shell_run(tmp_path, "bad", "exit 1"),
        shell_run(tmp_path, "never", "true"),
    ]
    outcome = sweep(tmp_path, runs, engine=options(fail_fast=True))
    assert states(outcome) == {"waits": "INTERRUPTED", "bad": "FAILED", "never": "PENDING"}
    assert (outcome.stopped, outcome.exit_code) == ("fail-fast", 1)


def test_two_launchers_never_run_one_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with SweepLock(tmp_path / "sweep"), pytest.raises(SweepBusy, match="is being run by pid"):
        sweep(tmp_path, [shell_run(tmp_path, "r", "true")])


def test_requests_from_another_shell_cancel_and_retry_runs(tmp_path: Path) -> None:
    runs = [
        shell_run(tmp_path, "long", "sleep 60"),
        shell_run(tmp_path, "flaky", f"test -e {tmp_path}/mended"),
        shell_run(tmp_path, "keeper", f"while ! test -e {tmp_path}/end; do sleep 0.02; done"),
        shell_run(tmp_path, "late", "true"),
    ]
    ids = {run.name: run.run_id for run in runs}
    folder = tmp_path / "sweep"
    seen: dict[str, list[str]] = {}
    asked = threading.Event()

    def watch(record):
        seen.setdefault(record.name, []).append(str(record.state))
        if record.name == "flaky" and record.state.failed and not asked.is_set():
            asked.set()
            (tmp_path / "mended").touch()
            ask(folder, "cancel", [ids["long"]])
            ask(folder, "retry", [ids["flaky"]])
        if record.name == "flaky" and str(record.state) == "SUCCEEDED":
            (tmp_path / "end").touch()

    outcome = sweep(tmp_path, runs, parallel=3, on_change=watch)
    assert states(outcome) == {"long": "CANCELLED", "flaky": "SUCCEEDED", "keeper": "SUCCEEDED", "late": "SUCCEEDED"}
    assert by_name(outcome)["flaky"].attempt == 2
    assert outcome.exit_code == 1


LAUNCHER = """
import sys
from pathlib import Path
from experiments.sweeping import shell_run, sweep
from kourou.experiments import SweepOptions
top = Path(sys.argv[1])
runs = [shell_run(top, f"r{i}", sys.argv[2], params={"i": i}) for i in range(4)]
try:
    sweep(top, runs, engine=SweepOptions(interrupt_s=3600))  # only a second Ctrl-C ends what ignores the first
except KeyboardInterrupt as interrupted:
    assert interrupted.outcome.stopped == "interrupted"
    raise
"""


def launcher(top: Path, script: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", LAUNCHER, str(top), script], env=env, start_new_session=True)


def begun(top: Path, count: int) -> None:
    until(lambda: len(list(top.rglob("begun"))) == count, 30, f"{count} runs to begin")


def test_ctrl_c_lets_runs_save_and_the_next_launch_goes_on(tmp_path: Path) -> None:
    script = """test -e $KOUROU_RUN_DIR/saved && exit 0
trap 'touch $KOUROU_RUN_DIR/saved; exit 5' INT; touch $KOUROU_RUN_DIR/begun; while true; do sleep 0.02; done"""
    with launcher(tmp_path, script) as process:
        begun(tmp_path, 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert len(list(tmp_path.rglob("saved"))) == 2
    runs = [shell_run(tmp_path, f"r{i}", script, params={"i": i}) for i in range(4)]
    (tmp_path / "runs" / "r2").mkdir(exist_ok=True)
    (tmp_path / "runs" / "r3").mkdir(exist_ok=True)
    for name in ("r2", "r3"):
        (tmp_path / "runs" / name / "saved").touch()
    outcome = sweep(tmp_path, runs)
    assert [record.attempt for record in outcome.records] == [2, 2, 1, 1]
    assert outcome.exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_what_others_send_twice_is_meant_once(number: int, tmp_path: Path) -> None:
    script = f"""trap 'touch $KOUROU_RUN_DIR/asked; while ! test -e {tmp_path}/go; do sleep 0.02; done
touch $KOUROU_RUN_DIR/saved; exit 5' INT; touch $KOUROU_RUN_DIR/begun; while true; do sleep 0.02; done"""
    with launcher(tmp_path, script) as process:
        begun(tmp_path, 2)
        process.send_signal(number)
        until(lambda: len(list(tmp_path.rglob("asked"))) == 2, 30, "both runs to be asked")
        process.send_signal(number)
        (tmp_path / "go").touch()
        assert process.wait(30) == 130
    assert len(list(tmp_path.rglob("saved"))) == 2


def test_a_second_ctrl_c_ends_runs_at_once(tmp_path: Path) -> None:
    script = """trap 'touch $KOUROU_RUN_DIR/asked' INT; trap '' TERM; touch $KOUROU_RUN_DIR/begun
(trap '' INT; exec sleep 60) & while true; do sleep 0.02; done"""
    with launcher(tmp_path, script) as process:
        begun(tmp_path, 2)
        process.send_signal(signal.SIGINT)
        until(lambda: len(list(tmp_path.rglob("asked"))) == 2, 30, "both runs to be asked")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
