"""What runs of sweeps left in their folders, as one table."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from kourou import errors
from kourou.experiments.describe.descriptions import Experiment, RunDescription
from kourou.experiments.describe.variants import save_variant
from kourou.experiments.results.progress import read_progress
from kourou.experiments.results.results import find_runs, load_results, run_record, save_run
from kourou.runtime.metrics.log import log_to


class TestProgressFiles:
    def test_cells_get_their_types(self, tmp_path: Path) -> None:
        text = 'Diagnostics/CumSteps,Return,Game,Done\n100,1.5,"a,b",True\n200,nan,,False\n300,2'
        (tmp_path / "progress.csv").write_text(text, encoding="utf-8")
        first, second = read_progress(tmp_path)
        assert first == {"Diagnostics/CumSteps": 100, "Return": 1.5, "Game": "a,b", "Done": True}
        assert math.isnan(second.pop("Return"))
        assert second == {"Diagnostics/CumSteps": 200, "Done": False}

    def test_rows_longer_than_the_header_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "progress.csv").write_text("a,b\n1,2\n1,2,3\n", encoding="utf-8")
        with pytest.raises(ValueError, match="row 2 has more cells"):
            read_progress(tmp_path)


class TestTables:
    def test_a_run_is_known_by_its_file(self, tmp_path: Path) -> None:
        params = [{"lr": 0.1, "path": tmp_path}]
        (run,) = RunDescription("r", [Experiment("e", "c", params)]).generate_runs(str(tmp_path), repeats=1)
        save_run(run)
        saved = json.loads((Path(run.folder) / "run.json").read_text(encoding="utf-8"))
        assert saved == run_record(run)
        assert saved["params"] == {"lr": 0.1, "path": str(tmp_path)}

    def test_all_runs_become_one_table(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        # given two runs of ours and one of rlpyt's
        experiment = Experiment("e", "c", [{"lr": 0.1}, {"lr": 0.2}])
        for run in RunDescription("r", [experiment]).generate_runs(str(tmp_path), repeats=1):
            save_run(run)
            for step in (10, 20):
                log_to(run.folder, step, loss=step * run.params["lr"])
        theirs = tmp_path / "theirs" / "run_0"
        save_variant({"agent": {"lr": 0.3}}, theirs.parent)
        theirs.mkdir()
        (theirs / "progress.csv").write_text("Diagnostics/CumSteps,loss\n5,9\n", encoding="utf-8")
        # when they are read
        table = load_results(tmp_path)
        # then there is a row for each line, with its parameters
        assert list(table.columns[:9]) == [
            "run", "name", "setting", "repeat", "seed", "params.lr", "params.agent.lr", "step", "time",
        ]  # fmt: skip
        assert table["loss"].tolist() == [1, 2, 2, 4, 9]
        assert table["step"].tolist() == [10, 20, 10, 20, 5]
        assert table["params.agent.lr"].tolist()[-1] == 0.3
        assert isinstance(table, pandas.DataFrame)

    def test_logs_below_a_runs_folder_are_that_runs(self, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        # as Sample Factory (.summary/0) and Stable-Baselines3 (PPO_1) have them
        for run in RunDescription("r", [Experiment("e", "c", [{"lr": 0.1}, {"lr": 0.2}])]).generate_runs(str(tmp_path)):
            save_run(run)
            (Path(run.folder) / "PPO_1").mkdir()
            (Path(run.folder) / "PPO_1" / "progress.csv").write_text("step,loss\n5,9\n", encoding="utf-8")
        table = load_results(tmp_path)
        assert table["params.lr"].tolist() == [0.1, 0.2]
        assert [name.rpartition("/")[2] for name in table["run"]] == ["PPO_1", "PPO_1"]

    def test_nothing_makes_an_empty_table(self, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        assert load_results(tmp_path).empty
        assert find_runs(tmp_path) == []
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            find_runs(tmp_path / "none")

    def test_a_broken_run_file_is_named(self, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        log_to(tmp_path, 0, a=1)
        for text in ("{", "{}", "[]"):
            (tmp_path / "run.json").write_text(text, encoding="utf-8")
            with pytest.raises(ValueError, match=r"run\.json does not say which run"):
                load_results(tmp_path)

    def test_without_pandas_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(errors.MissingExtra, match=r"kourou\[experiments\]"):
            load_results(tmp_path)
