"""Searching for hyperparameters: exactly so many trials, reproducible, resumable, and no error is lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from experiments.agents import Walk, manager
from kourou import errors
from kourou.experiments import Agent, ExperimentManager, FitsFailed
from optional import optional, pytest

optuna = optional("optuna")
pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
ONE_BY_ONE: dict[str, Any] = {"optuna_parallelization": "thread", "n_optuna_workers": 1}


class Hill(Agent):
    """Scores most at x = 3; fails, or is killed, where it is told to."""

    name = "hill"

    def __init__(self, x: float = 0.0, bad: str = "", **handed_over: Any) -> None:
        super().__init__(**handed_over)
        self.x, self.bad, self.trained = x, bad, 0

    @classmethod
    def sample_parameters(cls, trial: Any) -> dict[str, Any]:
        return {"x": 2 * trial.suggest_float("half", 0, 3)}  # what is suggested is not what is passed on

    def fit(self, budget: int, **kwargs: Any) -> None:
        if self.bad == "kill" and self.x > 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.bad == "raise" and self.x > 3:
            raise ArithmeticError(f"x is {self.x}")
        for _ in range(budget):
            self.trained += 1
            self.writer.add_scalar("score", self.eval(), self.trained)

    def eval(self, **kwargs: Any) -> float:
        return -((self.x - 3) ** 2)


def hill(tmp_path: Path, **options: Any) -> ExperimentManager:
    return manager(tmp_path, Hill, **options)


def trials(made: ExperimentManager) -> list[Any]:
    backend = optuna.storages.journal.JournalFileBackend(str(made.output_dir / "optuna" / "journal.log"))
    return optuna.load_study(study_name="hill", storage=optuna.storages.JournalStorage(backend)).trials


@pytest.mark.parametrize(
    ("mode", "workers"), [("thread", 1), pytest.param("fork", 3, marks=pytest.mark.alone), ("forkserver", 2)]
)
def test_there_are_exactly_so_many_trials_whatever_the_workers(tmp_path: Path, mode: str, workers: int) -> None:
    made = hill(tmp_path, mode=mode)
    best = made.optimize_hyperparams(
        7,
        n_fit=1,
        n_optuna_workers=workers,
        optuna_parallelization="thread" if mode == "thread" else "process",
        sampler_method="random",
    )
    found = trials(made)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 7
    # the same are tried whoever tries them
    halves = sorted(trial.params["half"] for trial in found)
    alone = hill(tmp_path)
    alone.optimize_hyperparams(7, n_fit=1, **ONE_BY_ONE, sampler_method="random")
    assert halves == sorted(trial.params["half"] for trial in trials(alone))
    # and the best is where it is used and where it is kept
    top = max(found, key=lambda trial: trial.value)
    assert best == {"x": 2 * top.params["half"]} == json.loads((made.output_dir / "best_hyperparams.json").read_text())
    made.fit()
    assert [agent.x for agent in made.get_agent_instances()] == [best["x"]] * 2


@pytest.mark.parametrize(("bad", "cause"), [("raise", "ArithmeticError: x is"), ("kill", "was killed by SIGKILL")])
def test_trials_that_fail_are_all_named_and_the_best_of_the_others_is_kept(
    tmp_path: Path, bad: str, cause: str
) -> None:
    made = hill(tmp_path, mode="forkserver", init_kwargs={"bad": bad})
    with pytest.raises(FitsFailed, match=cause) as failed:
        made.optimize_hyperparams(8, n_fit=1, sampler_method="random")
    states = [trial.state.name for trial in trials(made)]
    assert len(states) == 8
    assert states.count("FAIL") == len(failed.value.failures) > 0
    assert 0 < made.init_kwargs["x"] <= 3


def test_a_search_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    made = hill(tmp_path)
    made.optimize_hyperparams(3, n_fit=1, **ONE_BY_ONE)
    # given one more trial that began and was killed with its launcher
    backend = optuna.storages.journal.JournalFileBackend(str(made.output_dir / "optuna" / "journal.log"))
    study = optuna.load_study(study_name="hill", storage=optuna.storages.JournalStorage(backend))
    study.ask().set_user_attr("kourou_run", 3)
    # when
    again = ExperimentManager.load(made.output_dir)
    again.optimize_hyperparams(6, n_fit=1, **ONE_BY_ONE, continue_previous=True)
    # then
    assert [trial.state.name for trial in trials(made)] == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 2
    assert [trial.user_attrs["kourou_run"] for trial in trials(made)] == [0, 1, 2, 3, 4, 5]
    again.optimize_hyperparams(2, n_fit=1, **ONE_BY_ONE)
    assert len(trials(made)) == 2


def test_a_grid_is_searched_point_by_point(tmp_path: Path) -> None:
    made = hill(tmp_path, mode="forkserver")
    space = {"half": [0.5, 1.0, 1.5, 2.0]}
    best = made.optimize_hyperparams(4, n_fit=1, sampler_method="grid", sampler_kwargs={"search_space": space})
    assert sorted(trial.params["half"] for trial in trials(made)) == space["half"]
    assert best == {"x": 3.0}


@pytest.mark.parametrize("options", [{"fit_fraction": 0.25}, {"pruned_metric": "score"}])
def test_hopeless_trials_are_pruned(tmp_path: Path, options: dict) -> None:
    made = hill(tmp_path, fit_budget=16)
    made.optimize_hyperparams(12, n_fit=1, **ONE_BY_ONE, sampler_method="random", **options)
    found = trials(made)
    pruned = [trial for trial in found if trial.state.name == "PRUNED"]
    assert pruned
    assert len(found) == 12
    assert max(found, key=lambda trial: trial.value).state.name == "COMPLETE"


def test_no_trial_begins_after_the_time_out_and_what_there_is_is_returned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = hill(tmp_path)
    assert made.optimize_hyperparams(3, -1, **ONE_BY_ONE) == {}
    assert "hill: no trial was completed within -1 s" in caplog.text
    best = made.optimize_hyperparams(2, **ONE_BY_ONE)
    assert made.optimize_hyperparams(9, -1, continue_previous=True, **ONE_BY_ONE) == best


def test_mistakes_are_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(errors.KourouError, match="sampler_method is one of"):
        hill(tmp_path).optimize_hyperparams(1, sampler_method="guess")
    with pytest.raises(errors.KourouError, match="search_space"):
        hill(tmp_path).optimize_hyperparams(1, sampler_method="grid")
    with pytest.raises(FitsFailed, match="has no sample_parameters"):
        manager(tmp_path, Walk).optimize_hyperparams(1, **ONE_BY_ONE)
