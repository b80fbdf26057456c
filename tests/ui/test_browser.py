"""The pages in a real browser: a live run, a killed node, a sweep; two themes, a phone's width, keys, hostile names."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.commands import start
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import find_runs
from optional import is_there, optional, pytest
from polling import WAIT_S, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
playwright = optional("playwright.sync_api")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not CHROMIUM or not is_there("playwright"), reason="needs chromium, and the extra ui-test"),
]

HERE = Path(__file__).parent
SWEEP = """
name: twelve
train_dir: {folder}
repeats: 2
experiments:
  - name: "<img src=x onerror='window.hacked=1'>"
    command: [python3, {folder}/log.py]
    params: {{grid: {{lr: [0.1, 0.01, 0.001], width: [32, 64]}}}}

"""
SCRIPT = """
import json, os
with open(os.environ["KOUROU_RUN_DIR"] + "/metrics.jsonl", "w") as file:
    for step in range(20):
        print(json.dumps({"step": step, "score": step * 2}), file=file)
"""
WIDTHS = (1300, 390)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[FoundRun]:
    words = ("run", f"{HERE / 'programs.py'}:make_apex", "--launch-type", "local_mp", "--run-dir", str(folder / "runs"))
    launcher = start(*words, "--terminal", "output_to_files")
    try:
        (found,) = until(lambda: find_runs(folder / "runs"), WAIT_S, "the run's folder")
        until(lambda: all(str(n.state) == "READY" for n in found.status().nodes), WAIT_S, "the nodes")
        yield found
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=WAIT_S)


@pytest.fixture(scope="module")
def sweep(folder: Path) -> str:
    (folder / "log.py").write_text(SCRIPT)
    (folder / "sweep.yaml").write_text(SWEEP.format(folder=folder))
    with start("sweep", "run", str(folder / "sweep.yaml"), "-j", "2") as process:
        out, err = process.communicate(timeout=WAIT_S * 3)
        assert process.returncode == 0, (out, err)
    return "twelve"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    dashboard = start("ui", "--port", "0", "--runs-dir", str(folder / "runs"), "--sweeps", str(folder))
    try:
        assert dashboard.stderr is not None
        yield dashboard.stderr.readline().rpartition(" ")[2].strip()
    finally:
        dashboard.send_signal(signal.SIGINT)
        try:
            dashboard.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            dashboard.kill()
            dashboard.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Shown:
    """A page that was opened with the token, and what its console said."""

    def __init__(self, browser: Any, url: str, *, width: int = 1300, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_S * 1000)
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)
        self.origin = url.partition("/?")[0]

    def close(self) -> None:
        self.context.close()

    def go(self, path: str, wait_for: str) -> Any:
        self.page.goto(self.origin + path)
        self.page.wait_for_selector(wait_for)
        return self.page

    def check(self) -> None:
        """Nothing ran that should not, nothing was refused, nothing is wider than the window."""
        assert self.said == []
        assert self.page.evaluate("window.hacked") is None
        assert self.page.locator("img[src=x]").count() == 0
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) <= 0


@pytest.mark.parametrize("width", WIDTHS)
def test_all_pages_have_room_and_run_nothing_that_is_in_names(browser, url, run, sweep, scheme, width) -> None:
    with contextlib.closing(Shown(browser, url, width=width, scheme=scheme)) as shown:
        page = shown.go("/", "td >> text=apex")
        assert page.locator("td >> text=twelve").count() == 1
        shown.check()
        for tab, there in {
            "": ".graph .box >> nth=4",
            "#metrics": "canvas",
            "#timeline": ".life >> nth=6",
            "#data": "td >> text=actor/2",
            "#hosts": "td",
            "#logs": ".log div",
        }.items():
            shown.go(f"/runs/{run.run_id}{tab}", there)
            shown.check()
        page = shown.go(f"/sweeps/{sweep}", ".parallel .run >> nth=11")
        page.wait_for_selector("canvas")
        shown.check()


def test_a_live_run(browser, url, run) -> None:
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/runs/{run.run_id}", ".graph .edge text >> text=/s")
        assert page.locator(".graph .box").count() == 5
        assert page.locator("section", has_text="Nodes").locator("tbody tr").count() == 7
        assert "inference <img" in page.locator(".graph").inner_text()
        page.keyboard.press("2")
        page.wait_for_selector("canvas")
        names = page.locator("figcaption").all_inner_texts()
        assert names == ["loss", "</script><img src=x onerror='window.hacked=1'>"]
        page.keyboard.press("4")
        assert "transitions <img" in page.locator("td", has_text="transitions").first.inner_text()
        page.keyboard.press("6")
        page.wait_for_selector(".log div")
        assert "<img src=x" in page.locator(".log div").first.inner_text()
        assert "\x1b" not in page.locator(".log div").first.inner_text()
        shown.check()


def test_keys(browser, url, run) -> None:
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/runs/{run.run_id}", "tbody tr")
        page.keyboard.press("/")
        page.keyboard.type("actor/1")
        until(lambda: page.locator("tbody tr").count() == 1, WAIT_S, "the one row")
        page.locator("tbody tr").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog h2 >> text=actor/1")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("tbody tr").focus()
        page.keyboard.press("t")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        page.reload()
        page.wait_for_selector("tbody tr")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_node_that_is_suspended_has_not_failed(browser, url, run) -> None:
    pids = {node.name: node.pid for node in run.status().nodes}
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/runs/{run.run_id}", "tbody tr")
        os.kill(pids["actor/0"] or 0, signal.SIGSTOP)
        try:
            page.wait_for_selector("tr:has-text('actor/0') .state.warn >> text=no answer")
            page.wait_for_selector(".graph circle.warn", state="attached")
            assert page.locator(".findings .warn >> text=actor/0 does not answer").count() == 1
        finally:
            os.kill(pids["actor/0"] or 0, signal.SIGCONT)
        page.wait_for_selector("tr:has-text('actor/0') .state.good >> text=ready")
        shown.check()


def test_a_killed_node_and_one_that_is_restarted_by_a_button(browser, url, run) -> None:
    pids = {node.name: node.pid for node in run.status().nodes}
    os.kill(pids["actor/1"] or 0, signal.SIGKILL)
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/runs/{run.run_id}", "text=killed by SIGKILL")
        page.locator("tbody tr", has_text="actor/2").click()
        page.get_by_role("button", name="Restart").click()
        page.get_by_role("button", name="Restart it now").click()
        page.wait_for_selector("text=Asked for.")
        page.wait_for_selector("tr:has-text('actor/2') .warn-text >> text=2")
        page.keyboard.press("Escape")
        page.goto(f"{shown.origin}/runs/{run.run_id}#timeline")
        page.wait_for_selector(".events .bad >> text=killed by SIGKILL")
        assert page.locator(".timeline .row", has_text="actor/1").locator(".life").count() == 2
        shown.check()


def test_a_sweep_of_twelve(browser, url, sweep) -> None:
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/sweeps/{sweep}", ".parallel .run >> nth=11")
        assert page.locator("section", has_text="how it ended").locator("tbody tr").count() == 12
        assert page.locator(".legend li").count() == 6
        assert "n=2" in page.locator(".legend").inner_text()
        page.locator(".parallel .run").first.dispatch_event("click")
        page.wait_for_selector("dialog")
        shown.check()


def test_without_the_token_there_is_nothing_to_see(browser, url, run) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(url.partition("/?")[0] + f"/runs/{run.run_id}")
    assert answer.status == 401
    assert run.run_id not in page.content()
    assert "kourou ui" in page.content()
    context.close()


def test_the_run_is_stopped_and_stays_to_be_seen(browser, url, run) -> None:
    with contextlib.closing(Shown(browser, url)) as shown:
        page = shown.go(f"/runs/{run.run_id}", "tbody tr")
        page.get_by_role("button", name="Stop run").click()
        page.get_by_role("button", name="Stop it now").click()
        page.wait_for_selector(".facts >> text=finished")
        page.goto(f"{shown.origin}/runs/{run.run_id}#metrics")
        page.wait_for_selector("canvas")
        shown.check()
