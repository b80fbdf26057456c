"""Metrics in a run's folder: one rule for names and values, written whole, read while running and after crashes."""

from __future__ import annotations

import decimal
import fractions
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kourou as lp
from kourou.runtime.files import growing_file
from kourou.runtime.metrics import rows, shipping, writing
from kourou.runtime.metrics.images import save
from kourou.runtime.metrics.log import log_to, logging_to
from kourou.runtime.metrics.reading import RowFollower, last_metrics, read_config, read_images, read_metrics
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.runtime.node_environment import RUN_ATTEMPT_VARIABLE, RUN_DIR_VARIABLE
from optional import optional
from polling import until

torch = optional("torch")


@pytest.fixture(autouse=True)
def _files_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rows, "_told", set())
    yield
    writing.close_files()


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def test_what_was_logged_is_read(run_dir: Path) -> None:
    lp.log(1, loss=0.5, note='ü\n"x"', done=True, nothing=None)
    lp.log(2, **{"loss/actor": np.float32(0.25), "loss": torch.tensor(3), "count": np.int64(7)})
    first, second = read_metrics(run_dir)
    assert first.pop("time") <= second.pop("time")
    assert first == {"step": 1, "loss": 0.5, "note": 'ü\n"x"', "done": True, "nothing": None}
    assert second == {"step": 2, "loss/actor": 0.25, "loss": 3, "count": 7}


def test_outside_of_a_run_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    lp.log(0, a=1)
    lp.log_config(lr=1)
    lp.log_image(0, a=object())
    assert not list(tmp_path.iterdir())


class _Hostile:
    shape = property(lambda self: 1 / 0)

    def item(self) -> object:
        raise RuntimeError("no item")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (np.float64(2.5), 2.5),
        (np.array([[2]]), 2),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (decimal.Decimal("0.5"), 0.5),
        (fractions.Fraction(1, 4), 0.25),
        (1 << 62, 1 << 62),
        (1 << 70, float(1 << 70)),
        ("\udcff", "?"),
        ("x" * 5000, "x" * 4000 + "... (5000 characters)"),
    ],
    ids=repr,
)
def test_numbers_and_texts_of_all_kinds_are_read_as_such(tmp_path: Path, value: Any, read: Any) -> None:
    log_to(tmp_path, 0, a=value, nan=math.nan)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads((tmp_path / METRICS_FILE).read_text(encoding="utf-8"), parse_constant=refuse)
    (record,) = read_metrics(tmp_path)
    assert record["a"] == read
    assert math.isnan(record["nan"])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1], "[1] is no number and no text"),
        (np.zeros(2), "ndarray of shape (2,) is no number"),
        (1j, "1j is no number"),
        (b"x", "b'x' is no number"),
        (10**5000, "<int, whose __repr__ raises> is no number"),
        (_Hostile(), "<_Hostile, whose __repr__ raises> is no number"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_written_as_text_and_told_once(
    tmp_path: Path, value: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to(tmp_path, 0, a=value, b=1)
    log_to(tmp_path, 1, a=value, b=1)
    assert [type(record["a"]) for record in read_metrics(tmp_path)] == [str, str]
    said = capsys.readouterr().err
    assert f"kourou: metric 'a': {told}" in said
    assert said.count("\n") == 1


def test_a_tensor_of_several_numbers_is_named_by_its_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_to(tmp_path, 0, a=torch.zeros(2, 3))
    assert "metric 'a': Tensor of shape (2, 3) is no number" in capsys.readouterr().err


def test_names_that_a_row_has_already_get_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_to(tmp_path, 0, **{"time": 1, "node": 2, "_config": 3, "": 4, "x" * 300: 5, "a\n'\"\ud800": 6})
    (record,) = read_metrics(tmp_path)
    assert record.pop("step") == 0
    assert record.pop("time") > 1
    names = {"time_": 1, "node_": 2, "_config_": 3, "_": 4, f"{'x' * 200}_": 5, "a\n'\"?": 6}
    assert record == names
    assert capsys.readouterr().err.count("kourou: metric") == 5


def test_a_step_that_is_no_number_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (np.int64(3), torch.tensor(4), math.nan, "five", None, 1 << 64, 1e300):
        log_to(tmp_path, step, a=1)  # type: ignore[arg-type]
    assert [record.get("step") for record in read_metrics(tmp_path)] == [3, 4, *[None] * 5]
    assert "a step is a finite number below 2**63, got NaN" in capsys.readouterr().err


def test_a_disk_or_folder_that_takes_nothing_is_told_once(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(run_dir / "gone"))
    lp.log(0, a=1)
    lp.log(1, a=1)
    told = capsys.readouterr().err
    assert told.count("What is logged is lost") == 1
    assert "there is no folder" in told
    with pytest.raises(FileNotFoundError):
        log_to(run_dir / "gone", 0, a=1)


def test_a_further_attempt_overtakes_what_an_earlier_one_had_logged(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(number: int, *steps: int) -> list[tuple[int, int]]:
        monkeypatch.setenv(RUN_ATTEMPT_VARIABLE, str(number))
        for step in steps:
            lp.log(step, by=number)
        return [(record["step"], record["by"]) for record in read_metrics(run_dir)]

    assert attempt(1, 0, 10, 20, 15) == [(0, 1), (10, 1), (20, 1), (15, 1)]
    # when it goes on from a checkpoint
    assert attempt(2, 20, 15, 30) == [(0, 1), (10, 1), (20, 2), (15, 2), (30, 2)]
    # and when it begins anew
    assert attempt(3, 0, 10) == [(0, 3), (10, 3)]
    assert set(read_metrics(run_dir)[0]) == {"step", "time", "by"}


def test_an_attempt_of_a_node_overtakes_no_other_node(tmp_path: Path) -> None:
    lines = [(0, "a/0", 1), (5, "a/0", 1), (9, "a/1", 1), (5, "a/0", 2), (6, "a/0", 2)]
    for step, node, restart in lines:
        marks = {"node": node, **({rows.RESTART: restart} if restart > 1 else {})}
        writing.append(str(tmp_path), rows.encode_row(step, {"by": restart}, marks))
    records = read_metrics(tmp_path)
    assert [(r["step"], r["node"], r["by"]) for r in records] == [lines[0], *lines[2:]]
    assert rows.RESTART not in records[-1]


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
        "import sys; from kourou.experiments import log_to\n"
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


def test_a_file_that_is_no_log_names_the_line(tmp_path: Path) -> None:
    for text, message in (("{}\nx}\n", "line 2 is no JSON"), ("[1]\n", "line 1 is no JSON object")):
        (tmp_path / METRICS_FILE).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_metrics(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "none")


def test_few_files_are_open(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        writing.append(str(tmp_path / str(number)), "{}")
    assert len(writing._files) == writing._MOST_OPEN
    writing.append(str(tmp_path / "0"), "{}")
    assert len(read_metrics(tmp_path / "0")) == 2


def test_a_folder_can_be_chosen_for_a_thread(run_dir: Path) -> None:
    (run_dir / "fit").mkdir()
    with logging_to(run_dir / "fit"):
        lp.log(0, a=1)
    lp.log(0, a=2)
    assert [read_metrics(folder)[0]["a"] for folder in (run_dir / "fit", run_dir)] == [1, 2]


def test_settings_are_read_as_one(run_dir: Path) -> None:
    lp.log_config({"lr": 0.1, "net": {"sizes": (64, np.int64(64)), "act": _Hostile}}, seed=1)
    lp.log_config(lr=math.inf)
    lp.log(0, a=1)
    config = read_config(run_dir)
    assert config.pop("net")["sizes"] == [64, 64]
    assert config == {"lr": "Infinity", "seed": 1}
    assert len(read_metrics(run_dir)) == 1


def _pixels(file: Path) -> Any:
    return pytest.importorskip("matplotlib.image").imread(file)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)], ids=str)
def test_arrays_become_pictures(run_dir: Path, shape: tuple[int, ...]) -> None:
    image = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    lp.log_image(7, **{"a/../b": image, "bytes": (image * 255).astype(np.uint8), "torch": torch.tensor(image)})
    found = read_images(run_dir)
    assert [(one["step"], one["name"]) for one in found] == [(7, "a/../b"), (7, "bytes"), (7, "torch")]
    for one in found:
        pixels = _pixels(run_dir / one["file"])
        assert np.allclose(pixels, image.reshape(pixels.shape), atol=1 / 255)
    assert not read_metrics(run_dir)


def test_what_is_no_picture_is_told(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_dir / "text.png").write_text("no picture", encoding="utf-8")
    lp.log_image(0, flat=np.zeros(3), text=run_dir / "text.png", thing=object(), hostile=_Hostile())
    said = capsys.readouterr().err
    assert said.count("is not recorded") == 4
    assert "text.png is no PNG file" in said
    assert not (run_dir / METRICS_FILE).exists()


def test_the_last_metrics_of_each_node(tmp_path: Path) -> None:
    assert last_metrics(tmp_path) == {}
    for step, node, metrics in ((1, "a/0", {"x": 1, "y": 1}), (2, "a/0", {"x": 2}), (1, "b/0", {"z": math.nan})):
        writing.append(str(tmp_path), rows.encode_row(step, metrics, {"node": node}))
    with (tmp_path / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write("no row\n{")
    last = last_metrics(tmp_path)
    assert {name: last["a/0"][name] for name in ("step", "x", "y")} == {"step": 2, "x": 2, "y": 1}
    assert last["b/0"]["z"] == "NaN"


def test_rows_can_be_followed(tmp_path: Path) -> None:
    follower = RowFollower(tmp_path)
    assert list(follower.read()) == []
    log_to(tmp_path, 1, a="x" * 3000)
    log_to(tmp_path, 2, a=2)
    assert [row["step"] for row in follower.read()] == [1, 2]
    with (tmp_path / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write('{"step": 3')
        file.flush()
        assert list(follower.read()) == []
        file.write("}\n")
    assert [row["step"] for row in follower.read()] == [3]


def test_rows_wait_in_their_file_while_much_waits_to_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given many rows of an agent's folder, and a way that is full after each piece of them
    monkeypatch.setattr(growing_file, "_LINES_BYTES", 1000)
    for step in range(100):
        log_to(tmp_path, step, a="x" * 90)
    sent: list[bytes] = []

    def send(kind: str, lines: bytes) -> None:
        assert kind == shipping.ROWS
        sender.pause(True)
        sent.append(lines)

    sender = shipping.RowSender(tmp_path, send)
    try:
        # when there is room, then one piece is sent
        for count in (1, 2):
            until(lambda: len(sent) >= count, 20.0)  # noqa: B023 - called at once
            assert len(sent) == count
            sender.pause(False)
    finally:
        sender.pause(True)
        sender.close()
    # and at the end of a node the rest
    sender.flush()
    assert b"".join(sent).count(b"\n") == 100


def test_rows_and_pictures_of_another_host_arrive_in_order(tmp_path: Path) -> None:
    # given an agent's folder and the launcher's
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    sender = shipping.RowSender(there, lambda *message: shipping.receive(str(here), *message))
    # when a node logs there and ends
    try:
        file = save(there, "p", "1", "a/0", np.zeros((1, 1)))
        mark = {"node": "a/0", rows.IMAGE: {"name": "p", "file": file}}
        writing.append(str(there), rows.encode_row(1, {}, mark))
        writing.append(str(there), rows.encode_row(2, {"x": 0.5}, {"node": "a/0"}))
        sender.flush()
        # then all is here
        assert [record["x"] for record in read_metrics(here)] == [0.5]
        (image,) = read_images(here)
        assert _pixels(here / image["file"]).shape[:2] == (1, 1)
    finally:
        sender.close()
    # and nothing is written elsewhere
    shipping.receive(str(here), shipping.PICTURE, "../evil.png", b"x")
    assert not (tmp_path / "evil.png").exists()
