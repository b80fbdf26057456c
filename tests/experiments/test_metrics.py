"""Metrics in a run's folder: written whole, read while running, and after crashes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou import errors
from kourou.experiments.describe.descriptions import Experiment, RunDescription
from kourou.experiments.describe.variants import save_variant
from kourou.experiments.results.metrics import (
    METRICS_FILE,
    RUN_ATTEMPT_VARIABLE,
    RUN_DIR_VARIABLE,
    log,
    log_to,
    read_metrics,
    read_progress,
)
from kourou.experiments.results.results import find_runs, load_results, run_record, save_run
from optional import optional

torch = optional("torch")


def test_what_was_logged_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path))
    log(1, loss=0.5, note='ü\n"x"', done=True, nothing=None)
    log(2, **{"loss/actor": np.float32(0.25), "loss": torch.tensor(3), "count": np.int64(7)})
    first, second = read_metrics(tmp_path)
    assert first.pop("time") <= second.pop("time")
    assert first == {"step": 1, "loss": 0.5, "note": 'ü\n"x"', "done": True, "nothing": None}
    assert second == {"step": 2, "loss/actor": 0.25, "loss": 3, "count": 7}


def test_a_further_attempt_overtakes_what_an_earlier_one_had_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path))

    def attempt(number: int, *steps: int) -> list[tuple[int, int]]:
        monkeypatch.setenv(RUN_ATTEMPT_VARIABLE, str(number))
        for step in steps:
            log(step, by=number)
        return [(record["step"], record["by"]) for record in read_metrics(tmp_path)]

    assert attempt(1, 0, 10, 20, 15) == [(0, 1), (10, 1), (20, 1), (15, 1)]
    # when it goes on from a checkpoint
    assert attempt(2, 20, 15, 30) == [(0, 1), (10, 1), (20, 2), (15, 2), (30, 2)]
    # and when it begins anew
    assert attempt(3, 0, 10) == [(0, 3), (10, 3)]
    assert set(read_metrics(tmp_path)[0]) == {"step", "time", "by"}


def test_numbers_that_are_not_finite_survive_and_the_file_stays_json(tmp_path: Path) -> None:
    log_to(tmp_path, 0, a=math.nan, b=math.inf, c=-math.inf)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads((tmp_path / METRICS_FILE).read_text(encoding="utf-8"), parse_constant=refuse)
    (record,) = read_metrics(tmp_path / METRICS_FILE)
    assert math.isnan(record["a"])
    assert (record["b"], record["c"]) == (math.inf, -math.inf)


def test_lines_that_a_crash_cut_short_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / METRICS_FILE
    log_to(tmp_path, 1, a=1)
    with file.open("a", encoding="utf-8") as half:
        half.write('{"step": 2, "a"')
    assert [record["step"] for record in read_metrics(tmp_path)] == [1]
    log_to(tmp_path, 3, a=3)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 3]


def test_lines_of_threads_and_processes_do_not_mix(tmp_path: Path) -> None:
    # given two processes and two threads that log long lines at once
    code = (
        "import sys; from kourou.experiments.results.metrics import log_to\n"
        "for step in range(200): log_to(sys.argv[1], step, text='x' * 3000)"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(2)]

    def log_many() -> None:
        for step in range(200):
            log_to(tmp_path, step, text="y" * 3000)

    threads = [threading.Thread(target=log_many) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # when all are done
    assert [child.wait() for child in children] == [0, 0]
    # then every line is whole
    records = read_metrics(tmp_path)
    assert len(records) == 800
    assert {len(set(record["text"])) for record in records} == {1}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"time": 1}, "cannot be called 'time'"),
        ({"a": [1]}, "metric 'a' is a number or a text"),
        ({"a": np.zeros(2)}, "metric 'a' is an array of several numbers"),
        ({"a": object()}, "a number or a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(next(iter(value.values()))).__name__,
)
def test_what_cannot_be_logged_leaves_no_trace(tmp_path: Path, metrics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_to(tmp_path, 0, **metrics)
    assert not list(tmp_path.iterdir())


def test_a_tensor_of_several_numbers_is_no_metric(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metric 'a' is an array of several numbers"):
        log_to(tmp_path, 0, a=torch.zeros(2))
    assert not list(tmp_path.iterdir())


def test_outside_of_a_run_there_is_nowhere_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    with pytest.raises(errors.KourouError, match="belongs to none: set KOUROU_RUN_DIR"):
        log(0, a=1)


def test_a_file_that_is_no_log_names_the_line(tmp_path: Path) -> None:
    for text, message in (("{}\nx}\n", "line 2 is no JSON"), ("[1]\n", "line 1 is no JSON object")):
        (tmp_path / METRICS_FILE).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_metrics(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "none")


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
