"""Programs on a real Slurm."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import kourou as lp
from e2e.served import served
from e2e.slurm_jobs import TOLD, WITHIN_S, begin_now, emptied, queue, restarts
from experiments.slurm_cluster import slurm_cluster
from kourou.cli.control.stop_and_call import stop_run
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.files.run_info import RunInfo
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.run_search import choose_run
from kourou.testing.contracts.engines import ENGINE_CHECKS, check_ctrl_c
from optional import pytest
from polling import until

pytestmark = [pytest.mark.needs("slurm"), pytest.mark.usefixtures("no_leaks")]

SECRETS = {"dial.json", "token", "payloads", "plan.pickle"}


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kourou-slurm-") as folder, slurm_cluster(Path(folder) / "s") as config:
        yield config


@pytest.fixture(autouse=True)
def _slurm(_cluster: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLURM_CONF", str(_cluster))
    with emptied(runs_dir):
        yield


LONG = {check_ctrl_c}


@pytest.mark.parametrize(
    "check", [pytest.param(check, marks=[pytest.mark.long] if check in LONG else []) for check in ENGINE_CHECKS]
)
def test_slurm_keeps_the_contract(check: Callable[[EngineOptions], None]) -> None:
    check(lp.Slurm(nodes=2, lost_after_s=4))


def stop() -> None:
    lp.stop()


def test_what_slurm_cannot_give_is_said_in_its_words() -> None:
    program = lp.Program("wishes")
    program.add_node(lp.PyNode(stop), label="worker")
    with pytest.raises(lp.errors.LaunchError, match="invalid partition specified: nowhere"):
        lp.launch(program, lp.Slurm(partition="nowhere"))
    with pytest.raises(lp.errors.LaunchError, match="Requested node configuration is not available"):
        lp.launch(program, lp.Slurm(), local_resources={"worker": lp.Resources(gpus=9)})


def states(found: FoundRun) -> set[str]:
    return {str(node.state) for node in found.status().nodes}


def test_a_batch_job_is_found_and_followed_and_stopped_from_any_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a job that was submitted by a shell that has gone
    run_id = lp.submit(served(), lp.Slurm(nodes=2, lost_after_s=4), placement={"server": "a", "user": "b"})
    found = choose_run(run_id)
    until(lambda: states(found) == {"READY"} or found.state.over, WITHIN_S, "nodes at work")
    # When another shell asks, on the launcher's host or on one that only sees its folder
    for here in (True, False):
        monkeypatch.setattr(RunInfo, "here", here)
        assert found.state is RunState.RUNNING
        with RemoteRun(found) as remote:
            assert remote.client("server/0").echo(7) == 7
            assert [node.name for node in remote.status().nodes] == ["server/0", "user/0"]
    log = found.path / "logs" / "user" / "0.log"
    until(lambda: "first answer 3" in log.read_text("utf-8"), WITHIN_S, "the user's first answer")
    # and stops it from there, then it ends as any run does
    with RemoteRun(found) as remote:
        remote.request_stop("enough")
    until(lambda: found.ended, WITHIN_S, "the end of the run")
    assert found.status().state is RunState.FINISHED
    until(lambda: not {path.name for path in found.path.iterdir()} & SECRETS, WITHIN_S, "the end of what is secret")
    # and no secret was in what Slurm was told
    assert "token" not in (found.path / "job.sh").read_text("utf-8")


OF_TWO_PARTITIONS = lp.Slurm(lost_after_s=4, groups={"server": {"partition": "first"}, "user": {"partition": "others"}})


def test_groups_of_two_partitions_are_two_components_of_one_job() -> None:
    with lp.launch(served(), OF_TWO_PARTITIONS) as run:
        until(lambda: all(str(node.state) == "READY" for node in run.nodes.values()), WITHIN_S, "nodes at work")
        assert run.nodes["server/0"].host == "n1"
        assert run.nodes["user/0"].host in {"n2", "n3"}


@pytest.mark.long
def test_a_batch_job_of_two_components_begins_again_with_both() -> None:
    # Given
    found = choose_run(lp.submit(served(), OF_TWO_PARTITIONS))
    until(lambda: states(found) == {"READY"} or found.state.over, WITHIN_S, "nodes at work")
    with RemoteRun(found.refreshed()) as remote:
        assert remote.client("server/0").echo(7) == 7
        assert [node.host == "n1" for node in remote.status().nodes] == [True, False]
    # When it is put back into the queue, then all of it begins again
    subprocess.run([*TOLD, found.info.job], check=True)
    until(lambda: found.state is RunState.PENDING, WITHIN_S, "a job that waits again")
    begin_now(found.info.job)
    until(lambda: found.refreshed().info.incarnation == 2 and states(found) == {"READY"}, WITHIN_S, "both components")
    # and its end is that of both
    stop_run(found.refreshed(), timeout_s=WITHIN_S, as_json=False)
    until(lambda: not queue(), WITHIN_S, "the end of the job")


def test_a_job_that_waits_says_why_and_can_be_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    found = choose_run(lp.submit(served(), lp.Slurm(nodes=2, extra=("--begin=now+1hour",))))
    assert found.state is RunState.PENDING
    assert found.status().waits_for == "BeginTime"
    [finding] = examine(found).findings
    assert (finding.kind, finding.nodes) == ("unplaced", ("server/0", "user/0"))
    assert finding.details == ("slurm waits for BeginTime",)
    stop_run(found, timeout_s=None, as_json=False)
    assert f"its job {found.info.job} was cancelled" in capsys.readouterr().out
    with pytest.raises(lp.errors.LaunchError, match="invalid partition"):
        lp.submit(served(), lp.Slurm(partition="nowhere"))


def count_on() -> None:
    folder, incarnation = lp.checkpoint_dir(), lp.get_context().incarnation
    (folder / f"{incarnation}").touch()
    print(f"incarnation {incarnation} finds {sorted(path.name for path in folder.iterdir())}")
    if incarnation == 1:
        lp.wait_for_stop()
    else:
        lp.stop()


PUT_BACK = ("scontrol", "requeue")


@pytest.mark.parametrize("how", [TOLD, PUT_BACK], ids=["limit", "preempted"])
def test_a_job_that_begins_again_has_its_id_and_its_checkpoints(how: tuple[str, ...]) -> None:
    # Given
    program = lp.Program("counting")
    program.add_node(lp.PyNode(count_on), label="counter")
    found = choose_run(lp.submit(program, lp.Slurm(requeues=1)))
    log = found.path / "logs" / "counter" / "0.log"
    until(lambda: log.exists() and "incarnation 1" in log.read_text("utf-8"), WITHIN_S, "the first incarnation")
    # When Slurm says that the time limit is near, or takes the job away and puts it back
    subprocess.run([*how, found.info.job], check=True)
    until(lambda: found.state is RunState.PENDING, WITHIN_S, "a job that waits again")
    begin_now(found.info.job)
    # Then the run goes on, as the same one
    until(lambda: "incarnation 2" in log.read_text("utf-8"), WITHIN_S, "the second incarnation")
    until(lambda: found.state.over, WITHIN_S, "the end of the run")
    assert "incarnation 2 finds ['1', '2']" in log.read_text("utf-8")
    assert found.status().state is RunState.FINISHED


@pytest.mark.long
def test_a_job_that_is_told_of_its_limit_before_it_can_hear_begins_again(tmp_path: Path) -> None:
    # Given a job of so little time that Slurm tells it while its script still loads modules
    program = lp.Program("counting")
    program.add_node(lp.PyNode(count_on), label="counter")
    told = tmp_path / "told"
    loads = f"trap 'touch {told}' USR1; until test -e {told}; do sleep 0.05; done; trap '' USR1"
    found = choose_run(lp.submit(program, lp.Slurm(time="1", signal_s=55, lines=(loads,))))
    # When its launcher is there at last, then it begins again all the same
    until(lambda: restarts(found.info.job) == 1, WITHIN_S, "a job that waits again")
    stop_run(found, timeout_s=None, as_json=False)


def test_a_signal_that_comes_while_a_jobs_script_still_runs_is_kept(tmp_path: Path) -> None:
    # Given a job whose script still loads modules
    program = lp.Program("counting")
    program.add_node(lp.PyNode(count_on), label="counter")
    begun, loaded = tmp_path / "begun", tmp_path / "loaded"
    loads = f"touch {begun}; until test -e {loaded}; do sleep 0.05; done"
    found = choose_run(lp.submit(program, lp.Slurm(lines=(loads,))))
    until(begun.exists, WITHIN_S, "the script")
    # When it is told to save its work
    subprocess.run(["scancel", "--signal=USR1", "--batch", found.info.job], check=True)
    loaded.touch()
    # Then it begins again as soon as its launcher is there
    until(lambda: restarts(found.info.job) == 1, WITHIN_S, "a job that waits again")
    stop_run(found, timeout_s=None, as_json=False)


def test_a_job_that_slurm_does_not_put_back_tells_how_to_go_on() -> None:
    # Given a job that may not be requeued
    program = lp.Program("counting")
    program.add_node(lp.PyNode(count_on), label="counter")
    found = choose_run(lp.submit(program, lp.Slurm()))
    log, launcher = found.path / "logs" / "counter" / "0.log", found.path / "launcher.log"
    until(lambda: log.exists() and "incarnation 1" in log.read_text("utf-8"), WITHIN_S, "the first incarnation")
    subprocess.run(["scontrol", "update", f"JobId={found.info.job}", "Requeue=0"], check=True)
    # When
    subprocess.run([*TOLD, found.info.job], check=True)
    until(lambda: not queue(), WITHIN_S, "the end of the job")
    # Then what was asked, Slurm's words, what is kept and how to go on are told
    told = launcher.read_text("utf-8")
    assert f"job {found.info.job} cannot be put back into the queue: scontrol exited with 1" in told
    assert "Traceback" not in told
    assert found.state is RunState.FINISHED
    # and that goes on
    subprocess.run(shlex.split(told.splitlines()[-1]), check=True, capture_output=True)
    until(lambda: "incarnation 2 finds ['1', '2']" in log.read_text("utf-8"), WITHIN_S, "the second incarnation")
    until(lambda: found.refreshed().state.over, WITHIN_S, "the end of the run")


def stop_when_told(mark: Path) -> None:
    lp.stop("all is done")
    until(mark.exists, WITHIN_S, "the signal")


def test_a_program_that_was_ending_by_itself_is_not_put_back(tmp_path: Path) -> None:
    program = lp.Program("done")
    program.add_node(lp.PyNode(stop_when_told, tmp_path / "mark"), label="worker")
    found = choose_run(lp.submit(program, lp.Slurm()))
    until(lambda: states(found) == {"STOPPING"}, WITHIN_S, "a program that ends")
    subprocess.run([*TOLD, found.info.job], check=True)
    (tmp_path / "mark").touch()
    until(lambda: not queue(), WITHIN_S, "the end of the job")
    assert "requeue" not in (found.path / "launcher.log").read_text("utf-8")
    assert found.status().stop_reason == "all is done"
