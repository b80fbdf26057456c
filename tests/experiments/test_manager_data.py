"""What managers measured: tables while fits run, evaluations, comparisons and plots."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.agents import Faulty, Walk, manager
from kourou.experiments import (
    Agent,
    ExperimentManager,
    FitsFailed,
    MultipleManagers,
    ResultsError,
    agent_scores,
    compare_agents,
    evaluate_agents,
    iqm,
    plot_writer_data,
    probability_of_improvement,
    read_events,
    read_writer_data,
    summarize_agents,
    tukey_hsd,
)
from kourou.runtime.metrics.event_files import EventWriter
from optional import optional, pytest

pd = optional("pandas")
pytestmark = pytest.mark.usefixtures("no_leaks")


class Ramp(Agent):
    """Writes three known curves: slope 1, 2 and 3; scores its slope plus noise of its environment-free eval."""

    name = "ramp"

    def __init__(self, slope: float = 1.0, **handed_over: Any) -> None:
        super().__init__(**handed_over)
        self.slope = slope

    def fit(self, budget: int, **kwargs: Any) -> None:
        for i in range(budget):
            self.writer.add_scalar("y", self.slope * i, i)
            self.writer.add_scalar("frames", 10 * i, i)

    def eval(self, noise: float = 0.0, **kwargs: Any) -> float:
        return self.slope + noise * float(np.random.normal())  # noqa: NPY002 - managers seed the global one


class Counting(Ramp):
    """Counts its evaluations."""

    count = 0

    def eval(self, noise: float = 0.0, **kwargs: Any) -> float:
        Counting.count += 1
        return 0.0


def ramps(
    tmp_path: Path, name: str = "ramp", slopes: tuple[float, ...] = (1, 2, 3), **options: Any
) -> ExperimentManager:
    each = [{"slope": slope} for slope in slopes]
    made = manager(tmp_path, Ramp, agent_name=name, n_fit=len(slopes), init_kwargs_per_instance=each, **options)
    made.fit()
    return made


def test_every_fit_can_be_told_apart_in_the_table_and_in_data_csv(tmp_path: Path) -> None:
    made = ramps(tmp_path, fit_budget=3)
    for source in (made, made.output_dir, tmp_path, [made]):
        frame = read_writer_data(source)
        assert list(frame.columns) == ["name", "tag", "value", "dw_time_elapsed", "global_step", "n_simu"]
        assert frame[frame["tag"] == "y"].groupby("n_simu")["value"].max().tolist() == [2, 4, 6]
    written = pd.read_csv(made.output_dir / "data.csv")
    assert written["value"].tolist() == read_writer_data(made)["value"].tolist()


def test_agents_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    made = [ramps(tmp_path, slopes=(slope,), fit_budget=3) for slope in (1, 2, 3)]
    frame = read_writer_data(made)
    assert frame[frame["tag"] == "y"].groupby("name")["value"].max().to_dict() == {"ramp": 2, "ramp*": 4, "ramp**": 6}
    assert set(plot_writer_data(made, "y")["name"]) == {"ramp", "ramp*", "ramp**"}
    assert list(agent_scores(made)) == ["ramp", "ramp*", "ramp**"]


def test_a_tag_can_be_changed_and_a_fit_chosen(tmp_path: Path) -> None:
    made = ramps(tmp_path, fit_budget=3)
    frame = read_writer_data(made, preprocess_tag="y", preprocess_func=np.cumsum, id_agent=1)
    assert frame[frame["tag"] == "y"]["value"].tolist() == [0, 2, 6]
    assert set(frame["n_simu"]) == {1}
    with pytest.raises(ResultsError, match="1 tags to preprocess, and 2 functions"):
        read_writer_data(made, preprocess_tag="y", preprocess_func=[np.cumsum, np.cumsum])


def test_metrics_are_on_disk_while_fits_run(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(Walk):
        def fit(self, budget: int, **kwargs: Any) -> None:
            super().fit(budget)
            seen.append(len(read_writer_data(made)))

    made = manager(tmp_path, Watched, n_fit=2)
    made.fit()
    assert seen == [10, 20]


def test_a_manager_that_wrote_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="has written anything"):
        read_writer_data(manager(tmp_path))
    with pytest.raises(ResultsError, match="there is no manager"):
        read_writer_data(tmp_path)


def test_three_known_curves_have_the_known_mean_and_intervals(tmp_path: Path) -> None:
    # given the curves x, 2x and 3x, whose mean is 2x and whose standard deviation is x
    made = ramps(tmp_path, fit_budget=4)
    # when
    drawn = {kind: plot_writer_data(made, "y", error_representation=kind, level=0.95) for kind in ("ci", "pi")}
    # then: Student's quantile of 2 degrees of freedom is 4.302653
    for kind, scale in (("ci", np.sqrt(1 / 3)), ("pi", np.sqrt(4 / 3))):
        assert drawn[kind]["mean"].tolist() == pytest.approx([0, 2, 4, 6])
        half = (drawn[kind]["high"] - drawn[kind]["mean"]).tolist()
        assert half == pytest.approx([4.302653 * scale * x for x in range(4)], rel=1e-6)
        assert set(drawn[kind]["n_simu"]) == {3}


def test_plots_are_drawn_of_folders_in_every_way(tmp_path: Path) -> None:
    made = ramps(tmp_path, fit_budget=30), ramps(tmp_path, "flat", (0, 0.1), fit_budget=20)
    # matplotlib keeps its fonts' files open, so it has a process of its own
    code = """
import sys
from kourou.experiments import plot_writer_data
for kind in ("raw_curves", "ci", "pi", "cb"):
    file = f"{sys.argv[1]}/{kind}.png"
    frame = plot_writer_data(sys.argv[1], "y", error_representation=kind, smooth=True, savefig_fname=file)
    assert set(frame["name"]) == {"ramp", "flat"}
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    for kind in ("raw_curves", "ci", "pi", "cb"):
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    over_frames = plot_writer_data(made[0], "y", xtag="frames")
    assert over_frames["x"].tolist() == [10.0 * i for i in range(30)]
    assert plot_writer_data(made[0], "y", xtag="dw_time_elapsed", id_agent=0)["x"].iloc[0] == 0
    with pytest.raises(ResultsError, match="nothing was written under 'z'; there are frames, y"):
        plot_writer_data(made[0], "z")


def test_evaluations_are_seeded_and_columns_stay_with_their_agents(tmp_path: Path) -> None:
    one, other = ramps(tmp_path, eval_kwargs={"noise": 1.0}), ramps(tmp_path, "other", eval_kwargs={"noise": 1.0})
    untrained = manager(tmp_path, agent_name="untrained")
    assert one.eval_agents(4) == other.eval_agents(4)
    assert one.eval_agents(4) != other.eval_agents(3)  # later evaluations are others
    frame = evaluate_agents([untrained, one, ExperimentManager.load(one.output_dir)], n_simulations=3)
    assert list(frame.columns) == ["untrained", "ramp", "ramp*"]
    assert frame["untrained"].isna().all()
    assert frame["ramp*"].notna().all()
    with pytest.raises(ResultsError, match="untrained has no trained agent"):
        untrained.eval_agents()
    every = evaluate_agents([one], 3, choose_random_agents=False)
    assert len(every) == 3 * one.n_fit


def test_evaluations_are_drawn_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot as plt

    made = [ramps(tmp_path, "one"), ramps(tmp_path, "other")]
    evaluate_agents(made, n_simulations=2, fignum="scores", show=False, plot=True)
    axes = plt.figure("scores").gca()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "other"]
    plt.close("all")
    for kind in ("raw_curves", "ci"):
        axes = plt.figure().gca()
        plot_writer_data(made, "y", ax=axes, error_representation=kind, linestyles=True)
        assert {line.get_linestyle() for line in axes.get_lines()} == {"-", "--"}
        plt.close("all")


def test_comparisons_are_those_of_the_statistics(tmp_path: Path) -> None:
    made = [ramps(tmp_path, "low", (1, 2, 3, 4)), ramps(tmp_path, "high", (5, 6, 7, 8, 9))]
    scores = agent_scores(made, n_simulations=2)
    assert scores == {"low": [1, 2, 3, 4], "high": [5, 6, 7, 8, 9]}
    tukey = compare_agents(made, n_simulations=1)
    assert tukey["p-val"].tolist() == [tukey_hsd(scores)[0].p_value]
    assert tukey.iloc[0][["mean Agent1", "mean Agent2", "mean diff", "decisions"]].tolist() == [2.5, 7, -4.5, "reject"]
    assert tukey["low"].iloc[0] < -4.5 < tukey["high"].iloc[0]
    permuted = compare_agents(made, "permutation", n_simulations=1)
    assert permuted["p-val"].tolist() == pytest.approx([2 / 126])  # 9 over 4 ways to deal
    own = compare_agents(made, n_simulations=3, eval_function=lengths)
    assert own.iloc[0][["mean Agent1", "mean Agent2"]].tolist() == [4.5, 6]
    of_files = compare_agents([one.save() for one in made], n_simulations=1)
    assert of_files.to_dict() == tukey.to_dict()
    rows = [(name, score) for name, values in scores.items() for score in values]
    table = pd.DataFrame(rows, columns=["agent", "mean_eval"])
    assert compare_agents(table).to_dict() == tukey.to_dict()
    assert compare_agents(table, "permutation", seed=None)["decisions"].tolist() == ["reject"]
    summary, pairs = summarize_agents(made, n_simulations=1)
    assert summary.loc["high", "iqm"] == iqm(scores["high"])
    assert summary.loc["low", "low"] <= 2.5 <= summary.loc["low", "high"]
    assert pairs["probability"].tolist() == [0, probability_of_improvement(scores["high"], scores["low"])]


def lengths(manager: ExperimentManager, eval_budget: int, agent_id: int) -> list[int]:
    return [agent_id + len(manager.agent_name)] * eval_budget


def test_n_simulations_are_honoured(tmp_path: Path) -> None:
    made = manager(tmp_path, Counting, n_fit=3)
    made.fit()
    agent_scores(made, n_simulations=7)
    assert Counting.count == 21


def test_tensorboard_has_the_same_numbers_on_request(tmp_path: Path) -> None:
    together = MultipleManagers(parallelization="thread")
    together.append(manager(tmp_path, Ramp, n_fit=1, enable_tensorboard=True))
    together.run()
    made = together.managers[0]
    events = read_events(made.output_dir / "tensorboard" / "0")
    assert [event["y"] for event in events] == [float(i) for i in range(10)]
    assert not (manager(tmp_path, Ramp, n_fit=1).output_dir / "tensorboard").exists()


class Unnumbered(Faulty):
    """Does not say at which step it is."""

    def fit(self, budget: int, **kwargs: Any) -> None:
        self.writer.add_scalar("y", 0)
        self.writer.add_scalar("y", 1, 1000)
        for i in range(2, budget):
            self.writer.add_scalar("y", i)
        super().fit(0)


def test_steps_that_an_agent_does_not_tell_go_on_after_those_of_earlier_calls(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    made = manager(tmp_path, Unnumbered, n_fit=1, init_kwargs={"fault": str(fault)})
    made.fit(3)
    fault.write_text("raises")
    with pytest.raises(FitsFailed):
        made.fit(2)
    fault.unlink()
    made.fit(2)
    assert made.get_writer_data()[0]["global_step"].tolist() == [0, 1000, 2, 3, 1000]


def test_tensorboard_has_nothing_of_an_attempt_that_failed(tmp_path: Path) -> None:
    # given a fit that fails at the end of its second call
    fault = tmp_path / "fault"
    made = manager(tmp_path, Faulty, n_fit=1, init_kwargs={"fault": str(fault)}, enable_tensorboard=True)
    made.fit(3)
    fault.write_text("raises")
    with pytest.raises(FitsFailed):
        made.fit(7)
    # when it is repeated, and shorter
    fault.unlink()
    made.fit(2)
    # then there are the steps of the first call and of this one
    assert [event["step"] for event in read_events(made.output_dir / "tensorboard" / "0")] == [0, 1, 2]
    assert len(list((made.output_dir / "tensorboard" / "0").iterdir())) == 2


def test_a_bar_tells_how_many_fits_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager(tmp_path, n_fit=3, progress=True).fit()
    assert "walk, fits" in (shown := capsys.readouterr().err)
    assert "3/3" in shown
    manager(tmp_path).fit()
    assert not capsys.readouterr().err  # which is no terminal


def test_checksums_of_event_files_are_tensorflows(tmp_path: Path) -> None:
    EventWriter(tmp_path).add_scalar("loss", 0.5, 3)
    data = next(tmp_path.glob("events*")).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    # every file of TensorBoard's begins with a record of 24 bytes, for whose length this is the masked CRC-32C
    assert length == 24
    assert data[8:12] == bytes.fromhex("a37f4b22")
    [event] = read_events(tmp_path)
    assert (event["step"], event["loss"]) == (3, 0.5)
