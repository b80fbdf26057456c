"""Managers: seeded alike wherever fits run, saved whatever fails, read back from disk."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium

from experiments.agents import (
    Faulty,
    Later,
    Locked,
    Plain,
    PlainAndLocked,
    SavesBadly,
    Waiting,
    Walk,
    Yields,
    manager,
    scores,
)
from kourou import errors
from kourou.experiments import (
    Agent,
    AgentWithSimplePolicy,
    DescriptionError,
    ExperimentManager,
    FitsFailed,
    MultipleManagers,
    Retry,
)
from kourou.experiments.managers import threads
from kourou.experiments.managers.job import score_of
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.tracebacks import format_failure
from optional import pytest
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

FORK = pytest.param("fork", marks=pytest.mark.alone)  # refused where other tests have used gRPC before
MODES = ["thread", "spawn", "forkserver", "fork"]

PAGE = """
import sys
from experiments.agents import Net, Walk as Base, manager, scores

class Walk(Base):  # defined in the script itself, which has no main guard
    pass

agent, env = (Net, None) if sys.argv[1] == "torch" else (Walk, "CartPole-v1")
for mode in sys.argv[4:]:
    made = manager(sys.argv[2], agent, mode=mode, train_env=env, n_fit=int(sys.argv[3]))
    made.fit()
    if agent is Walk:
        made.fit(5)
    curves = sum(frame["value"].sum() for frame in made.get_writer_data().values())
    print(*(float(number).hex() for number in (*scores(made), curves)))
"""


@pytest.mark.timeout(240)  # eight fits import torch, on a busy machine
@pytest.mark.parametrize(
    ("kind", "fits", "modes"),
    [
        ("numpy", 2, MODES),
        pytest.param("torch", 1, MODES[:2], marks=pytest.mark.long),  # each fit in a process imports it
        pytest.param("torch", 2, MODES, marks=pytest.mark.soak),
    ],
)
def test_a_script_without_a_main_guard_gives_the_same_bits_in_all_modes(
    tmp_path: Path, kind: str, fits: int, modes: list[str]
) -> None:
    # given a script that does not import torch itself: the first fit does; and a program without any file
    script = tmp_path / "page.py"
    script.write_text(PAGE)
    program = [str(script)] if kind == "torch" else ["-c", PAGE]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "error"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    # when
    command = [sys.executable, *program, kind, str(tmp_path), str(fits), *modes]
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    # then
    assert done.returncode == 0, done.stderr
    results = done.stdout.splitlines()
    assert len(results) == len(modes)
    assert len(set(results)) == 1, done.stdout
    assert len(set(results[0].split())) == fits + 1  # and fits differ


def test_more_fits_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    few, many = manager(tmp_path, n_fit=4), manager(tmp_path, n_fit=8, mode="forkserver", max_workers=3)
    few.fit()
    many.fit()
    assert scores(many)[:4] == scores(few)


def test_other_seeds_give_other_results_and_no_seed_a_new_one(tmp_path: Path) -> None:
    made = [manager(tmp_path, n_fit=1, seed=seed) for seed in (1, 2, None, None)]
    for one in made:
        one.fit()
    assert len({scores(one)[0] for one in made}) == 4


def test_a_fork_with_grpcs_threads_is_refused(tmp_path: Path) -> None:
    code = """
import sys, grpc
from concurrent import futures
from experiments.agents import manager
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_insecure_port("127.0.0.1:0")
server.start()
try:
    manager(sys.argv[1], mode="fork").fit()
except ValueError as error:
    print(error)
server.stop(None).wait()
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, env=env, capture_output=True, text=True
    )
    assert "gRPC works in this process" in done.stdout, done.stderr


@pytest.mark.parametrize("mode", ["spawn", "forkserver"])
def test_what_cannot_be_pickled_is_named_before_anything_starts(tmp_path: Path, mode: str) -> None:
    made = manager(tmp_path, mode=mode, init_kwargs={"options": {"lock": threading.Lock(), "lr": 0.1}})
    with pytest.raises(errors.PlanError, match=r"init_kwargs\['options'\]\['lock'\] cannot be pickled"):
        made.fit()
    assert not made.output_dir.exists()


@pytest.mark.parametrize("mode", ["thread", "spawn", "forkserver", FORK])
def test_one_fit_that_raises_does_not_lose_the_others(tmp_path: Path, mode: str) -> None:
    # given a fit that fails as long as a file is there
    fault = tmp_path / "fault"
    fault.write_text("raises")
    each = [{}, {"fault": str(fault)}, {}]
    made = manager(tmp_path, Faulty, mode=mode, n_fit=3, init_kwargs_per_instance=each)
    # when
    with pytest.raises(FitsFailed) as failed:
        made.fit()
    # then the error names it, and the others are there, on disk too
    assert [one.name for one in failed.value.failures] == ["faulty, fit 1"]
    assert "the reward is not a number" in str(failed.value)
    assert "in fit" in failed.value.failures[0].traceback
    assert ExperimentManager.load(made.output_dir).fitted == (0, 2)
    before = scores_of(made, 0, 2)
    # and once the fault is mended, only that one is trained
    fault.unlink()
    made.fit()
    assert made.fitted == (0, 1, 2)
    assert scores_of(made, 0, 2) == before
    # as if it had never failed
    whole = manager(tmp_path, Faulty, n_fit=3)
    whole.fit()
    assert scores(whole) == scores(made)
    assert len(made.get_writer_data()[1]) == 10


def scores_of(made: ExperimentManager, *fits: int) -> list[float]:
    agents = made.get_agent_instances()
    return [agents[fit].eval() for fit in fits]


@pytest.mark.parametrize("mode", ["spawn", "forkserver", FORK])
def test_a_killed_worker_begins_anew_once(tmp_path: Path, mode: str) -> None:
    fault = tmp_path / "fault"
    fault.write_text("killed once")
    quick = Retry(times={"signal": 1}, backoff_s=0.01)
    made = manager(tmp_path, Faulty, mode=mode, init_kwargs_per_instance=[{}, {"fault": str(fault)}], retry=quick)
    made.fit()
    whole = manager(tmp_path, Faulty)
    whole.fit()
    assert scores(made) == scores(whole)
    assert len(made.get_writer_data()[1]) == 10


def test_a_worker_that_is_always_killed_is_reported(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.write_text("killed")
    made = manager(
        tmp_path,
        Faulty,
        mode="forkserver",
        init_kwargs_per_instance=[{"fault": str(fault)}, {}],
        retry=Retry(times={"signal": 1}, backoff_s=0.01),
    )
    with pytest.raises(FitsFailed, match="faulty, fit 0: was killed by SIGKILL"):
        made.fit()
    assert made.fitted == (1,)


INTERRUPTED = """
import sys
from experiments.agents import Waiting, manager
manager(sys.argv[1], Waiting, n_fit=3, mode=sys.argv[2], max_workers=1, outdir_id_style=None).fit()
"""


@pytest.mark.timeout(240)  # as above
@pytest.mark.parametrize("mode", [*MODES[:-1], FORK])
def test_ctrl_c_ends_fits_and_keeps_those_that_are_done(tmp_path: Path, mode: str) -> None:
    # given a program that has finished one of its fits, and is in the second
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    folder = tmp_path / Waiting.name / "fits"
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), mode]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as program:
        for fit in (0, 1):
            until((folder / f"{fit}/output/began").exists, 90, f"fit {fit} that has begun")
            (folder / "0/output/go").touch()
        # when
        program.send_signal(signal.SIGINT)
        told = program.communicate(timeout=90)[1]
    # then it ends, and who pressed Ctrl-C need not be told where
    assert "Traceback" not in told
    assert program.returncode == 128 + signal.SIGINT
    # and what is left can be trained
    again = ExperimentManager.load(folder.parent)
    assert again.fitted == (0,)
    for fit in (1, 2):
        (folder / str(fit) / "output").mkdir(parents=True, exist_ok=True)
        (folder / str(fit) / "output" / "go").touch()
    again.fit()
    whole = manager(tmp_path, n_fit=3)
    whole.fit()
    assert scores(again) == scores(whole)


@pytest.mark.parametrize(
    ("agent", "told"),
    [(Locked, r"Locked\.lock cannot be pickled"), (PlainAndLocked, "PlainAndLocked cannot be pickled")],
)
def test_in_processes_an_agent_that_cannot_be_saved_is_told_before_it_trains(
    tmp_path: Path, agent: type, told: str
) -> None:
    init_kwargs = {"start": 1} if agent is PlainAndLocked else {}
    made = manager(tmp_path, agent, n_fit=1, mode="forkserver", init_kwargs=init_kwargs)
    with pytest.raises(FitsFailed, match=told) as caught:
        made.fit()
    assert 'parallelization="thread"' in str(caught.value)
    assert made.get_writer_data() == {}


@pytest.mark.parametrize("agent", [Locked, SavesBadly])
def test_in_threads_an_agent_that_cannot_be_saved_stays_in_memory(
    tmp_path: Path, agent: type, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two that do the same, and only one of which can be saved
    made, saved = manager(tmp_path, agent), manager(tmp_path, Walk)
    # When both are trained, and trained on
    for one in (made, saved):
        one.fit()
        one.fit(5)
    # Then they have come to the same, and it is said where the first one is
    assert made.fitted == (0, 1)
    assert scores(made) == scores(saved)
    assert made.eval_agents() == saved.eval_agents()
    assert len(made.get_writer_data()[0]) == 15
    assert f"{made.agent_name}, fit 1 stays in the memory of this process" in caplog.text
    # And neither another manager nor one that is emptied has it
    assert not ExperimentManager.load(made.output_dir).fitted
    made.clear_handlers()
    assert not made.fitted


@pytest.mark.parametrize("mode", ["thread", "forkserver"])
def test_any_object_with_fit_and_eval_works(tmp_path: Path, mode: str) -> None:
    each = [{"start": 1}, {"start": 100}]
    made = manager(tmp_path, Plain, mode=mode, init_kwargs_per_instance=each)
    made.fit()
    made.fit(5)
    assert scores(made) == [16, 115]
    assert made.eval_agents() == [16, 115, 16, 115]
    assert made.eval_agents(3, agent_id=1) == [115, 115, 115]


class Corridor(gymnasium.Env[Any, Any]):
    """Each step pays what the action says; it ends after four."""

    action_space = observation_space = gymnasium.spaces.Discrete(9)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.steps, float(action), self.steps == 4, False, {}


class Always(AgentWithSimplePolicy):
    def fit(self, budget: int, **kwargs: Any) -> None:
        self.env.reset()
        for _ in range(budget):
            self.env.step(7)

    def policy(self, observation: int, action: int = 2) -> int:
        return action


def test_agents_with_a_policy_are_evaluated_by_playing_and_their_steps_can_be_recorded(tmp_path: Path) -> None:
    made = manager(tmp_path, Always, train_env=Corridor, n_fit=1, init_kwargs={"writer_extra": "action_and_reward"})
    made.fit(3)
    made.fit(2)
    assert made.eval_agents(1, {"n_simulations": 3}) == [8.0]
    assert made.eval_agents(1, {"eval_horizon": 3, "gamma": 0.5, "action": 4}) == [4 + 2 + 1]
    data = made.get_writer_data()[0]
    for tag in ("action", "reward"):
        rows = data[data["tag"] == tag]
        assert rows["global_step"].tolist() == [1, 2, 3, 4, 5]
        assert set(rows["value"]) == {7.0}
    with pytest.raises(DescriptionError, match="writer_extra is one of reward, action"):
        Always(Corridor(), writer_extra="rewards")  # type: ignore[arg-type]
    with pytest.raises(DescriptionError, match="for environments of gymnasium"):
        Always(object(), writer_extra="reward")


def test_a_manager_is_read_back_from_a_folder_that_moved(tmp_path: Path) -> None:
    made = manager(tmp_path / "here")
    made.fit()
    before = scores(made)
    moved = made.output_dir.rename(tmp_path / "there")
    again = ExperimentManager.load(moved)
    assert scores(again) == before
    again.fit(5)
    assert len(again.get_writer_data()[0]) == 15
    made.clear_output_dir()
    again.clear_handlers()
    assert again.fitted == ()
    with pytest.raises(errors.NotFound, match="no manager"):
        ExperimentManager.load(tmp_path / "nowhere")


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    manager(tmp_path, outdir_id_style=None).fit()
    with pytest.raises(errors.PlanError, match="another manager's"):
        manager(tmp_path, outdir_id_style=None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fit_budget": None}, "fit_budget is missing"),
        ({"n_fit": 0}, "n_fit"),
        ({"parallelization": "threads"}, "parallelization is one of"),
        ({"max_workers": 0}, "max_workers"),
        ({"init_kwargs_per_instance": [{}]}, "1 entries for n_fit=2"),
        ({"outdir_id_style": "x"}, "outdir_id_style"),
    ],
)
def test_arguments_without_meaning_are_refused(tmp_path: Path, options: dict, told: str) -> None:
    with pytest.raises(errors.PlanError, match=told):
        manager(tmp_path, **options)


@pytest.mark.parametrize("agent", [object, "Walk", 3])
def test_what_makes_no_agents_is_refused(tmp_path: Path, agent: Any) -> None:
    with pytest.raises(errors.PlanError, match=r"agent_class is a class whose objects have fit\(budget\), got "):
        manager(tmp_path, agent)


def test_an_abstract_class_of_agents_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(errors.PlanError, match="agent_class: Agent is an abstract class, without eval, fit"):
        manager(tmp_path, Agent)


def test_coroutines_of_an_agent_are_run_and_generators_refused(tmp_path: Path) -> None:
    later = manager(tmp_path, Later, fit_budget=3)
    later.fit()
    assert later.eval_agents(1) == [3.0]
    with pytest.raises(FitsFailed, match="Yields.fit is a generator function, so calling it has run none of its code"):
        manager(tmp_path, Yields).fit()


def test_a_score_that_is_no_number_is_told_with_the_agents_class() -> None:
    with pytest.raises(TypeError, match=r"Yields.eval has to return one number, and returned None"):
        score_of(Yields(), {})


def test_many_managers_share_workers_and_keep_their_order(tmp_path: Path) -> None:
    # given one manager that is slow and comes first, one that fails, and one that is quick
    fault = tmp_path / "fault"
    fault.write_text("raises")
    together = MultipleManagers(mp_context="forkserver", max_workers=2)
    for name, agent, options in (
        ("slow", Walk, {"fit_budget": 300}),
        ("bad", Faulty, {"init_kwargs": {"fault": str(fault)}}),
        ("quick", Walk, {"fit_budget": 1}),
    ):
        together.append(manager(tmp_path, agent, agent_name=name, **options))
    # when
    with pytest.raises(FitsFailed) as failed:
        together.fit()
    # then
    assert [one.name for one in failed.value.failures] == ["bad, fit 0", "bad, fit 1"]
    assert [(one.agent_name, one.fitted) for one in together.managers] == [
        ("slow", (0, 1)),
        ("bad", ()),
        ("quick", (0, 1)),
    ]
    alone = manager(tmp_path, fit_budget=300)
    alone.fit()
    assert scores(together.managers[0]) == scores(alone)


@pytest.mark.parametrize("small_disk", ["size=2m"], indirect=True)
def test_on_a_full_disk_what_was_saved_before_stays(small_disk: Path) -> None:
    # given a disk of 2 MB, and a fit that writes until it is full
    made = manager(small_disk, Greedy, mode="forkserver", n_fit=3, max_workers=1)
    with pytest.raises(FitsFailed) as failed:
        made.fit()
    assert [one.name for one in failed.value.failures] == ["greedy, fit 1"]
    assert "No space left on device" in str(failed.value)
    assert ExperimentManager.load(made.output_dir).fitted == (0, 2)


class Greedy(Walk):
    name = "greedy"

    def fit(self, budget: int, **kwargs) -> None:
        super().fit(budget)
        if self.output_dir is not None and self.output_dir.parent.name == "1":
            self.output_dir.mkdir()
            with (self.output_dir / "frames").open("wb") as file:
                try:
                    while True:
                        file.write(bytes(100_000))
                        file.flush()
                except OSError:
                    os.truncate(self.output_dir / "frames", 0)
                    raise


class Ends:
    """What a supervisor tells."""

    def __init__(self) -> None:
        self.codes: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        """A thread has no process."""

    def on_line(self, name: str, line: str, stream: str) -> None:
        """What went wrong."""

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        self.codes.put(exit.code)


@pytest.mark.parametrize("when", ["fails", "has failed"])
def test_the_end_of_a_fit_in_a_thread_is_told_though_it_is_interrupted_just_then(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a fit in a thread that fails, and is interrupted in that moment
    ends = Ends()

    class Text(str):
        __slots__ = ()

        def splitlines(self, keepends: bool = False) -> list[str]:
            if when == "has failed":
                supervisor.signal("fit", signal.SIGINT)
            return super().splitlines(keepends)

    def failing(error: BaseException) -> str:
        if when == "fails":
            supervisor.signal("fit", signal.SIGINT)
        return Text(format_failure(error))

    monkeypatch.setattr("kourou.experiments.managers.threads.format_failure", failing)
    with threads.ThreadSupervisor(ends) as supervisor:
        boot = {"payload_file": tmp_path / "there is none", "payload_sha256": ""}
        supervisor.start(ProcessSpec(name="fit", argv=()), 1, boot)
        # then its end is told
        assert ends.codes.get(timeout=20) == (130 if when == "fails" else 1)
