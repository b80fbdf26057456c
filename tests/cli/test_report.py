"""The page of a run and of a sweep: it has what people look for, and nothing that anybody wrote runs in it."""

from __future__ import annotations

import html.parser
from pathlib import Path

import pytest

from cli.commands import kourou
from cli.folders import NOW, failed_run
from kourou.cli.report.curves import Line, figure, short, ticks
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.journal.journal import Journal, declare
from kourou.experiments.results.results import save_run
from kourou.runtime.metrics import rows, writing

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&\x1b[31m"
VOID = {"meta", "img", "path", "br", "rect"}


class Page(html.parser.HTMLParser):
    """Every element of a page, and its text; raises where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def harmless(page: Page) -> bool:
    names = {tag for tag, _ in page.elements}
    attributes = {name for _, given in page.elements for name in given}
    return not names & {"script", "iframe", "link", "img"} and not any(name.startswith("on") for name in attributes)


def test_a_run_is_told_on_one_page(tmp_path: Path) -> None:
    found = failed_run(tmp_path / "run-x")
    outcome = kourou("report", "run", "--runs-dir", str(tmp_path))
    assert outcome.out == f"{found.path / 'report.html'}\n"
    page = Page((found.path / "report.html").read_text(encoding="utf-8"))
    assert harmless(page)
    for text in ("actor/0 failed first, 2 times", "How it ended", "raised ValueError: no such env (attempt 2)", "loss"):
        assert text in page.text
    assert [given["title"] for tag, given in page.elements if tag == "s"] == [
        "learner/0 (attempt 1) finished",
        "actor/0 (attempt 1) raised ValueError: no such env",
        "actor/0 (attempt 2) raised ValueError: no such env",
    ]
    assert sum(tag == "figure" for tag, _ in page.elements) == 2


def test_nothing_that_a_run_says_is_more_than_text(tmp_path: Path) -> None:
    failed_run(tmp_path / "run-x", ("learner", HOSTILE.replace("/", "")), text=HOSTILE)
    file = tmp_path / "page.html"
    assert kourou("report", str(tmp_path / "run-x"), "-o", str(file)).code == 0
    page = Page(file.read_text(encoding="utf-8"))
    assert harmless(page)
    assert page.text.count("<script>alert(1)</script>") > 8


def test_a_sweep_is_told_on_one_page(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    sweep = tmp_path / "train_dir" / "sweep"
    sweep.mkdir(parents=True)
    specs = [
        RunSpec(
            name=f"{number:02}_x{HOSTILE.replace('/', '')}_{lr}",
            setting=f"s{number // 2}",
            repeat=number % 2,
            seed=number,
            params={"lr": lr, "text": HOSTILE},
            command=("true",),
            folder=str(sweep / f"{number:02}"),
        )
        for number, lr in enumerate([0.1, 0.1, 0.2, 0.2])
    ]
    journal = Journal(sweep)
    declare(journal, ({"run_id": s.name, "name": s.name, "folder": s.folder, "params": dict(s.params)} for s in specs))
    for number, spec in enumerate(specs):
        save_run(spec)
        for step in range(5):
            writing.append_once(spec.folder, rows.encode_row(step, {"return": step + number, HOSTILE: 1}, {}))
        journal.append("started", spec.name, attempt=1)
        state = "FAILED" if number == 3 else "SUCCEEDED"
        journal.append("ended", spec.name, state=state, cause=HOSTILE, last_lines=[HOSTILE], ended_at=NOW)
    journal.commit()
    journal.close()
    outcome = kourou("report", str(tmp_path / "train_dir"))
    assert outcome.out == f"{sweep / 'report.html'}\n"
    page = Page((sweep / "report.html").read_text(encoding="utf-8"))
    assert harmless(page)
    assert "lr=0.2 (n=2)" in page.text
    assert "6.5 ± 6.4" in page.text
    assert "3 succeeded" in page.text


def test_curves_of_any_numbers_can_be_drawn() -> None:
    for values in ([1.0], [-1e308, 1e308], [1e-320, 2e-320], [5e-324, 5e-324], [0.0, 5e-324], [5.0, 5 + 1e-15]):
        drawn = figure("x", [Line(steps=list(range(len(values))), values=values, color="red")], [("red", "x")]).html
        assert "nan" not in drawn
        assert "inf" not in drawn
    many = [float(number % 7) for number in range(100_000)]
    many[51_234] = 1000.0
    drawn = figure("x", [Line(steps=list(range(len(many))), values=many, color="red")], []).html
    assert len(drawn) < 20_000
    assert "1000" in drawn  # the spike is within the axis


def test_numbers_at_axes_are_short() -> None:
    assert ticks(0, 10, 4) == [0, 5, 10]
    assert ticks(-1, 1, 4) == [-1, -0.5, 0, 0.5, 1]
    assert [short(number) for number in (0, 0.5, 1234, 12_345, 2.5e6, 1e-5)] == [
        "0", "0.5", "1234", "12.35k", "2.5M", "1.0e-05",
    ]  # fmt: skip
