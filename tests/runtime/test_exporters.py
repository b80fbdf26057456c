"""Metrics handed on, row by row; an exporter that fails takes nobody along."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import kourou as lp
from kourou import errors
from kourou.cli.status.export import export_metrics
from kourou.experiments.results.event_files import read_events
from kourou.experiments.results.results import find_runs
from kourou.runtime.metrics import exporters, rows, writing
from kourou.runtime.metrics.export import Export
from kourou.runtime.metrics.images import save
from optional import is_there


class Recorder:
    """Takes what it is told; raises once it was told as often as it may."""

    def __init__(self, most: int = 1000) -> None:
        self.told: list[tuple[object, ...]] = []
        self._most = most

    def _tell(self, *what: object) -> None:
        if len(self.told) == self._most:
            raise RuntimeError("full")
        self.told.append(what)

    def config(self, settings: Mapping[str, object]) -> None:
        self._tell("config", settings)

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        self._tell(step, node, dict(numbers))

    def image(self, step: float, time: float, node: str, name: str, file: Path) -> None:
        self._tell(step, node, name, file.exists())

    def flush(self) -> None:
        """Told of after each step, which other tests look at."""

    def close(self) -> None:
        self._tell("close")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    recorders = {"whole": Recorder(), "weak": Recorder(most=2)}
    broken = {"broken": lambda *_: 1 / 0}
    monkeypatch.setattr(
        exporters, "EXPORTERS", {**{name: lambda *_, r=r: r for name, r in recorders.items()}, **broken}
    )
    monkeypatch.setattr("kourou.runtime.metrics.export.EXPORTERS", exporters.EXPORTERS)
    return recorders


def logged(folder: Path) -> None:
    row = {"node": "a/0"}
    picture = {"name": "p", "file": save(folder, "p", "7", "", np.zeros((1, 1)))}
    lines = [
        rows.encode_row(None, {}, {**row, rows.CONFIG: {"lr": 1}}),
        rows.encode_row(5, {"loss": 0.5, "word": "x", "done": True}, row),
        rows.encode_row(6, {"word": "x"}, row),
        rows.encode_row(None, {"loss": math.nan}, {"node": "b/0", rows.RESTART: 2}),
        rows.encode_row(7, {}, {**row, rows.IMAGE: picture}),
    ]
    for line in lines:
        writing.append_once(str(folder), line)


def test_each_row_is_told_once_and_who_fails_is_told_no_more(
    tmp_path: Path, made: dict[str, Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    export = Export(tmp_path, ["whole", "weak", "broken"], run="r", program="p")
    assert export.step() == 0
    logged(tmp_path)
    assert export.step() == 5
    export.close()
    assert repr(made["whole"].told) == repr(
        [
            ("config", {"lr": 1}),
            (5, "a/0", {"loss": 0.5}),
            (0, "b/0", {"loss": math.nan}),
            (7, "a/0", "p", True),
            ("close",),
        ]
    )
    assert len(made["weak"].told) == 2
    assert export.failed
    said = capsys.readouterr().err
    assert said.count("gets no more metrics") == 2
    assert f"`kourou export {tmp_path} --log-to weak` hands all of them on later" in said


@pytest.mark.skipif(not is_there("tensorboard"), reason="TensorBoard is not installed")
def test_tensorboard_has_a_run_for_each_node_and_results_count_it_once(tmp_path: Path) -> None:
    logged(tmp_path)
    export_metrics(str(tmp_path), None, ["tensorboard"], follow=False)
    (record,) = read_events(tmp_path / "tensorboard" / "a" / "0")
    assert (record["step"], record["loss"]) == (5, 0.5)
    assert math.isnan(read_events(tmp_path / "tensorboard" / "b" / "0")[0]["loss"])
    assert find_runs(tmp_path) == [tmp_path]


def test_what_is_no_exporter_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    program = lp.Program("p")
    program.add_node(lp.PyNode(print), label="a")
    with pytest.raises(errors.PlanError, match="metrics can go to mlflow, otel, tensorboard, wandb, not to 'csv'"):
        lp.launch(program, "local_mt", log_to="csv")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(errors.MissingExtra, match=r"kourou\[wandb\]"):
        lp.launch(program, "local_mt", log_to=["wandb"])
