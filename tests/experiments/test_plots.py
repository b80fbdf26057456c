"""Learning curves as data and as files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kourou.experiments import ResultsError, RunSpec, learning_curves, log_to, plot, save_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for lr in (0.1, 0.2):
        for repeat in range(3):
            run = RunSpec(
                name=f"{lr}-{repeat}",
                folder=str(tmp_path / f"{lr}-{repeat}"),
                command=("x",),
                params={"lr": lr, "same": "</script>"},
                repeat=repeat,
            )
            save_run(run)
            for step in range(5):
                log_to(run.folder, step, score=lr * step + repeat, word="no number", **{"$loss_{": 1 / (step + 1)})
    return tmp_path


def test_there_is_a_curve_for_each_metric_and_setting_over_all_runs(folder: Path) -> None:
    curves = learning_curves(folder)
    assert [(curve.metric, curve.label, curve.band.runs) for curve in curves] == [
        ("score", "lr=0.1", 3),
        ("score", "lr=0.2", 3),
        ("$loss_{", "lr=0.1", 3),
        ("$loss_{", "lr=0.2", 3),
    ]
    # mean of 0, 1 and 2 more than the slope gives; Student's interval of three runs: 4.303 * 1 / sqrt(3)
    assert list(curves[1].band.mean) == pytest.approx([1, 1.2, 1.4, 1.6, 1.8])
    assert curves[1].band.high[0] - curves[1].band.mean[0] == pytest.approx(4.302653 / 3**0.5, rel=1e-5)


def test_settings_may_be_joined(folder: Path) -> None:
    (curve,) = learning_curves(folder, metrics=["score"], by=["same"])
    assert (curve.label, curve.band.runs) == ("same=</script>", 6)


def test_a_picture_and_a_page_are_written(folder: Path) -> None:
    # matplotlib keeps its fonts' files open, so it has a process of its own
    code = "import sys; from kourou.experiments import plot; print(plot(sys.argv[1], sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(folder), str(folder / "out.png")], check=True, capture_output=True)
    assert (folder / "out.png").read_bytes()[:4] == b"\x89PNG"
    page = plot(folder, folder / "out.html", by=["same"], title="<b>").read_text()
    assert "&lt;b&gt;" in page
    data = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])[0]["label"] == "same=</script>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["nothing"]}, "there is no metric 'nothing'; there are score, "),
        ({"by": ["nothing"]}, "there is no parameter 'nothing'; there are lr, same"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, options, message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        plot(folder, folder / "out.png", **options)


def test_other_files_and_empty_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"a plot is a \.png"):
        plot(folder, folder / "out.gif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="nothing was logged"):
        plot(tmp_path / "empty", tmp_path / "out.png")
