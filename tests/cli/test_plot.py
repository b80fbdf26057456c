"""What a run measured, drawn: as a picture, as characters, as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kourou import errors
from kourou.cli.status.plot import plot_run
from kourou.cli.terminal.chart import chart
from kourou.runtime.files.run_info import RunInfo
from kourou.runtime.metrics import rows, writing
from kourou.runtime.metrics.reading import curves_of
from kourou.runtime.monitoring.found_run import FoundRun


@pytest.fixture
def found(tmp_path: Path) -> FoundRun:
    info = RunInfo.of_this_process(
        run_id=tmp_path.name,
        program="p",
        launch_type="local_mp",
        terminal="",
        nodes=2,
        coordinator="",
        stop_s=1.0,
        started_at=0.0,
        metrics_dir=str(tmp_path),
    )
    return FoundRun(path=tmp_path, info=info)


def logged(found: FoundRun, node: str, step: object, **metrics: object) -> None:
    writing.append_once(str(found.path), rows.encode_row(step, metrics, {"node": node}))


def test_curves_are_of_metrics_and_nodes() -> None:
    records = [
        {"step": 2, "node": "a/0", "x": 1, "text": "no", "true": True},
        {"step": 1, "node": "a/0", "x": 0.5, "y": math.nan},
        {"step": 2, "node": "a/0", "x": 7},
        {"node": "b/0", "x": 3},
        {"node": "b/0", "x": 4},
    ]
    assert curves_of(records) == [("x", "a/0", [1, 2], [0.5, 7]), ("x", "b/0", [0, 1], [3, 4])]


def test_a_chart_has_a_dot_for_each_point_and_the_numbers_at_its_ends() -> None:
    lines = chart([([0, 10], [0, 1]), ([0, 10], [1, 1])], width=31, height=4).plain.splitlines()
    assert [line[:11] for line in lines] == ["        1 ┤", "          ┤", "          ┤", "        0 ┤", " " * 11]
    assert lines[0][11:26] == "⠉" * 15
    assert (lines[3][11], lines[3][25:]) == ("⣀", " " * 6)
    assert (lines[4].split(), len(lines[4])) == (["0", "10"], 31)


@pytest.mark.parametrize("numbers", [[1.0], [0.0, 0.0], [-1e308, 1e308], [1e-300, 2e-300], [5, 5 + 1e-15]], ids=repr)
def test_a_chart_of_any_numbers_can_be_drawn(numbers: list[float]) -> None:
    assert chart([(list(range(len(numbers))), numbers)], width=5, height=2).plain.count("\n") == 3


def test_a_picture_and_json_have_all_metrics_whatever_their_names(
    found: FoundRun, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    for step in range(3):
        logged(found, "a/0", step, run=step, **{"$x_{": step, "params.y": 1})
        logged(found, "a/1", step + 100, **{"$x_{": step})  # no steps in common with the other
    page = found.path / "page.html"  # as a picture, it would leave matplotlib's fonts open
    plot_run(found, (), output=page, as_json=False)
    assert capsys.readouterr().out == f"{page}\n"
    assert all(name in page.read_text(encoding="utf-8") for name in ('"metric.run"', '"$x_{"', '"metric.params.y"'))
    plot_run(found, ["r*"], output=None, as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"metric": "run", "node": "a/0", "steps": [0, 1, 2], "values": [0, 1, 2]}
    ]


def test_what_was_not_logged_is_told(found: FoundRun) -> None:
    with pytest.raises(errors.NotFound, match=r"has logged no numbers \(yet\)"):
        plot_run(found, (), output=None, as_json=True)
    logged(found, "a/0", 1, loss=1)
    with pytest.raises(errors.NotFound, match="has no metric 'lost'; it has loss"):
        plot_run(found, ["lost"], output=None, as_json=True)
