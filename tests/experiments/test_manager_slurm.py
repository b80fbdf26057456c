"""Managers whose fits are jobs of a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.agents import Faulty, Waiting, Walk, manager, scores
from experiments.slurm_cluster import slurm_cluster
from kourou.experiments import ExperimentManager, FitsFailed, MultipleManagers, Retry, SlurmOptions
from kourou.experiments.journal.journal import read_records
from optional import pytest
from polling import WAIT_S, until

# Each job starts a Python of its own; on a busy machine that takes its time.
pytestmark = [pytest.mark.needs("slurm"), pytest.mark.usefixtures("cluster", "no_leaks")]
SLURM = SlurmOptions(poll_s=0.1)


@pytest.fixture(scope="module")
def slurm_conf():
    # A short path: munged and Slurm have sockets in there.
    with tempfile.TemporaryDirectory(prefix="kourou-slurm-") as folder, slurm_cluster(Path(folder) / "s") as config:
        yield config


@pytest.fixture
def cluster(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))


def test_jobs_give_the_same_bits_as_threads_and_go_on(tmp_path: Path) -> None:
    class Local(Walk):  # no node could import it
        name = "local"

    jobs = manager(tmp_path, Local, mode="slurm", slurm=SLURM, train_env="CartPole-v1")
    jobs.fit()
    jobs.fit(5)
    threads = manager(tmp_path, Local, train_env="CartPole-v1")
    threads.fit()
    threads.fit(5)
    assert scores(jobs) == scores(threads)
    assert [len(frame) for frame in jobs.get_writer_data().values()] == [15, 15]


def test_a_job_that_fails_is_named_one_that_is_killed_begins_anew_and_only_what_failed_is_run_again(
    tmp_path: Path,
) -> None:
    # given a fit that raises, and one that is killed the first time
    raises, killed = tmp_path / "raises", tmp_path / "killed"
    raises.write_text("raises")
    killed.write_text("killed once")
    each = [{"fault": str(raises)}, {"fault": str(killed)}, {}]
    quick = Retry(times={"signal": 1}, backoff_s=1.0)  # between its attempts the manager looks several times
    made = manager(tmp_path, Faulty, mode="slurm", slurm=SLURM, n_fit=3, init_kwargs_per_instance=each, retry=quick)
    # when
    with pytest.raises(FitsFailed) as failed:
        made.fit()
    # then
    assert [one.name for one in failed.value.failures] == ["faulty, fit 0"], failed.value.failures
    assert "the reward is not a number" in failed.value.failures[0].traceback
    assert made.fitted == (1, 2)
    # and once it is mended, as if nothing had failed
    raises.unlink()
    made.fit()
    whole = manager(tmp_path, Faulty, n_fit=3)
    whole.fit()
    assert scores(made) == scores(whole)
    attempts = {record.name: record.attempt for record in read_records(made.output_dir).values()}
    assert attempts["faulty, fit 2"] == 1


def test_fits_of_several_managers_are_jobs_of_one_array(tmp_path: Path) -> None:
    together = MultipleManagers(parallelization="slurm", slurm=SLURM, output_dir=tmp_path / "journal")
    for budget in (2, 3):
        together.append(manager(tmp_path, n_fit=2, fit_budget=budget))
    together.fit()
    assert [len(one.get_writer_data()[1]) for one in together.managers] == [2, 3]
    [journal] = (tmp_path / "journal").iterdir()
    assert len({record.job.partition("_")[0] for record in read_records(journal).values()}) == 1


SCRIPT = """
import sys
from experiments.agents import Waiting, manager
from kourou.experiments import SlurmOptions
made = manager(sys.argv[1], Waiting, mode="slurm", slurm=SlurmOptions(poll_s=0.1), outdir_id_style=None)
made.fit()
"""


def test_jobs_outlive_a_script_that_is_killed_and_are_found_again(tmp_path: Path) -> None:
    # given a script whose two fits run as jobs
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    folder = tmp_path / Waiting.name
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=env) as script:
        until(lambda: len(list(folder.glob("fits/*/output/began"))) == 2, 60, "two fits that have begun")
        # when it is killed
        script.send_signal(signal.SIGKILL)
    again = ExperimentManager.load(folder)
    assert not again.fitted
    call = folder / "jobs" / "call-0.pkl"
    written_by_it = call.stat().st_ino

    def let_go() -> None:  # not before it is known what is fitted: who asks for more of what is done gets more of it
        until(lambda: call.stat().st_ino != written_by_it, WAIT_S)
        for fit in (0, 1):
            (folder / "fits" / str(fit) / "output" / "go").touch()

    with ThreadPoolExecutor(1) as thread:
        going = thread.submit(let_go)
        again.fit()
        going.result(WAIT_S)
    # then its jobs are followed, not started again
    assert again.fitted == (0, 1)
    assert [len(list(folder.glob(f"fits/{fit}/output/began/*"))) for fit in (0, 1)] == [1, 1]
