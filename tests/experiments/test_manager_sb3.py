"""Stable-Baselines3's own models, trained by a manager."""

from __future__ import annotations

from pathlib import Path

from kourou.experiments import ExperimentManager, StableBaselinesAgent, read_writer_data
from optional import optional, pytest

sb3 = optional("stable_baselines3")
pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

KWARGS = {"algo_cls": "A2C", "n_steps": 8, "model_kwargs": {"policy_kwargs": {"net_arch": [8]}}}


def trained(tmp_path: Path, **options) -> ExperimentManager:
    given = {"init_kwargs": KWARGS, "fit_kwargs": {"log_interval": 5}, "seed": 3, "output_dir": tmp_path, **options}
    made = ExperimentManager(StableBaselinesAgent, "CartPole-v1", 200, **given)
    made.fit()
    return made


def weights(made: ExperimentManager) -> list[list[float]]:
    return [
        [float(value) for p in agent.model.policy.parameters() for value in p.detach().flatten()]
        for agent in made.get_agent_instances()
    ]


def test_a_model_may_print_and_the_writer_be_told_of_each_reward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given rlberry's arguments
    extra = {"verbose": 1, "writer_extra": "reward", "tensorboard_log": str(tmp_path / "boards")}
    made = trained(tmp_path, n_fit=1, init_kwargs={**KWARGS, **extra})
    # Then
    assert "ep_rew_mean" in capsys.readouterr().out
    rewards = read_writer_data(made).query("tag == 'reward'")
    assert rewards["global_step"].tolist() == list(range(1, 201))
    assert set(rewards["value"]) == {1.0}
    assert list((tmp_path / "boards").iterdir())
    # And when it goes on
    made.fit(100)
    assert len(read_writer_data(made).query("tag == 'reward'")) >= 300


def test_models_are_trained_alike_in_threads_and_processes_and_go_on(tmp_path: Path) -> None:
    # given
    here = trained(tmp_path, n_fit=2)
    there = trained(tmp_path, n_fit=1, parallelization="process", mp_context="forkserver")
    # then both ways give the same weights, fit by fit
    assert weights(here)[:1] == weights(there)
    assert weights(here)[0] != weights(here)[1]
    # and what the models logged is on disk
    assert "rollout/ep_rew_mean" in set(read_writer_data(here)["tag"])
    # and the files are Stable-Baselines3's own
    assert sb3.A2C.load(next((here.output_dir / "fits" / "0").glob("agent-*/*.zip"))).num_timesteps >= 200
    # when they go on
    here.fit(100)
    # then from where they were
    assert here.get_agent_instances()[0].model.num_timesteps >= 300
    assert all(score > 0 for score in here.eval_agents(2))
