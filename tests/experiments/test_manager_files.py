"""Managers from YAML files: what is written is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.agents import scores
from kourou.experiments import DescriptionError, experiment_generator, load_experiment_results, managers_of_file

pytestmark = pytest.mark.usefixtures("no_leaks")

FILES = {
    "walks.yaml": """
description: two walks
seed: 5
n_fit: 2
train_env: env.yaml
global_fit_kwargs: {fit_budget: 4}
agents:
  - agents/long.yaml
  - {agent_class: experiments.agents.Walk, agent_name: short, init_kwargs: {step: 0.1}, fit_budget: 2}
""",
    "env.yaml": "{constructor: gymnasium.make, params: {id: CartPole-v1}}",
    "agents/long.yaml": "{base_config: base.yaml, init_kwargs: {step: 1e-1}}",
    "agents/base.yaml": "{agent_class: experiments.agents.Walk, init_kwargs: {step: 9}}",
}


def test_files_may_be_named_from_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given paths as rlberry reads them
    monkeypatch.chdir(folder)
    Path("of_mine").mkdir()
    Path("agents/based.yaml").write_text("base_config: agents/base.yaml")
    Path("of_mine/walks.yaml").write_text("{train_env: env.yaml, agents: [agents/based.yaml]}")
    # When
    (made,) = managers_of_file("of_mine/walks.yaml", fit_budget=1, output_dir="out")
    # Then
    assert (made.agent_name, made.init_kwargs) == ("based", {"step": 9})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_written_is_found_again(folder: Path) -> None:
    # given
    out = folder / "out"
    words = [str(folder / "walks.yaml"), "--output_dir", str(out), "--parallelization", "thread", "--max_workers", "-1"]
    managers = list(experiment_generator(words))
    # when
    for one in managers:
        one.fit()
    # then
    again = load_experiment_results(out, "walks.yaml")
    assert list(again) == ["long", "short"] == [one.agent_name for one in managers]
    assert scores(again["long"]) == scores(managers[0])
    assert [len(one.get_writer_data()[1]) for one in managers] == [4, 2]
    assert {agent.step for one in managers for agent in one.get_agent_instances()} == {0.1}
    assert [one.n_fit for one in experiment_generator([*words, "--n_fit", "3"])] == [3, 3]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("walks.yaml", "agent: []", r"walks\.yaml: agents: missing"),
        (
            "walks.yaml",
            "agents: [{agent_class: a.B, fit_budget: many}]",
            "fit_budget: expected a whole number, got 'many'",
        ),
        ("agents/base.yaml", "{agent_class: experiments.agents.Wolk}", "no class that can be imported"),
        (
            "agents/base.yaml",
            "{agent_class: experiments.agents.Walk, init: {}}",
            r"long\.yaml: init: no such setting; there may be agent_class, .* \(base\.yaml, line 1\)",
        ),
        ("agents/base.yaml", "{base_config: long.yaml}", "is its own base"),
        ("env.yaml", "{params: {}}", r"env\.yaml: constructor: missing"),
    ],
)
def test_mistakes_are_told_with_their_file(folder: Path, name: str, text: str, told: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DescriptionError, match=told):
        list(experiment_generator([str(folder / "walks.yaml")]))
